"""The account after the faults: every task is held to the rules, and every watch to the timelines."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import grpc
import grpc.aio

from kuueri_grpc.pb.task_pb2 import TASK_STATE_PAUSED, Task, TaskState
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, ms, state_name, type_name
from tests.acceptance.watcher import Watcher, watched
from tests.chaos.ledger import Entry, Ledger
from tests.chaos.load import Load
from tests.chaos.rules import RULES, Case
from tests.chaos.target import ChaosTarget

#: For what is still under way when the faults end: leases, waits, answers, and attempts that were lost more
#: than once. Those are tried one at a time in each process, for two leases or more: there may be hundreds.
SETTLING_S = 240
#: For the next event meanwhile. No answer, wait or lease takes as long.
_SILENCE_S = 30
#: For a watch to tell what has happened long ago. It must not need another fault, nor a new stream.
_TELLING_S = 30
_READERS = 32


async def all_ended(project: Project, load: Load, draw: random.Random, everything: Watcher) -> float:
    """Let go what is paused, wait until no task is live, and return how long that took, in s."""
    began = time.monotonic()
    seen, silent_from = -1, began
    try:
        async with asyncio.timeout(SETTLING_S):
            # The project's own count, and not a stream: it is one of the things to be checked.
            while (await project.facts()).task_in_queue != 0:
                # Again and again: a task whose attempt is in flight may be held yet.
                for task in await _listed(project, state=TASK_STATE_PAUSED):
                    await load.call(load.ledger.entries[task.task_id], "resume", draw)
                await asyncio.sleep(0.2)
                if everything.seen.total() != seen:
                    seen, silent_from = everything.seen.total(), time.monotonic()
                elif time.monotonic() - silent_from > _SILENCE_S:
                    raise TimeoutError
    except TimeoutError:
        live = await _still_live(project, load.ledger, time.monotonic() - began)
        raise AssertionError("\n".join([live, *everything.faults])) from None
    return time.monotonic() - began


async def _still_live(project: Project, ledger: Ledger, waited_s: float) -> str:
    """Say what has not ended, and what is known of it."""
    count = (await project.facts()).task_in_queue
    live = [task for task in await _listed(project) if not task.HasField("end_time")]
    lines = [f"{count} tasks are live after {waited_s:.0f} s, says the project; ListTasks has {len(live)}:"]
    for task in live[:20]:
        known = "acknowledged" if ledger.entries[task.task_id].acknowledged else "never acknowledged"
        lines.append(f"{known}: {await _tell(project, task)}")
    return "\n  ".join(lines)


async def _tell(project: Project, task: Task) -> str:
    """Return what is known of a task that should have ended."""
    events = [(ms(event.create_time), type_name(event)) for event in await project.timeline(task.task_id)]
    last = [f"{at - events[0][0]} ms {name}" for at, name in events[-10:]]
    now = f"{state_name(task)}, due at {ms(task.schedule_time) - events[0][0]} ms"
    return f"{task.task_id} ({task.http_target.url}) is {now}: {last}"


async def _listed(project: Project, **filters: TaskState.ValueType) -> list[Task]:
    """Return all tasks that a filter lets pass; a page may have none of them."""
    listed: list[Task] = []
    token = ""
    while True:
        page = await project.list(page_size=1_000, page_token=token, **filters)
        listed += page.tasks
        token = page.next_page_token
        if not token:
            return listed


class Account:
    """Compares the ledger, the target's record, the timelines and what watches told.

    `found`: how many faults each rule found. `recovered`: events that say that an attempt goes out again.
    `duplicates`: deliveries of an attempt after its first.
    """

    def __init__(self, load: Load, target: ChaosTarget, slack: Callable[[int], int]) -> None:
        self.faults: list[str] = [*load.ledger.faults]
        self.found: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.recovered = 0
        self.duplicates = 0
        self._ledger = load.ledger
        self._arrivals = target.arrivals
        self._slack = slack

    async def check(self, project: Project, everything: Watcher, queue: Watcher, queue_name: str) -> None:
        """Check every task that was ever tried, that nothing else was sent, and what two watches told."""
        found = await self._read(project)
        timelines = {task_id: events for task_id, (_, events) in found.items()}
        await self._check_watch(everything, timelines, everything.told.keys() - timelines.keys())
        for task_id, entry in self._ledger.entries.items():
            # Purged, or never accepted: the watch of everything had its events.
            task, events = found.get(task_id, (None, everything.told.get(task_id, [])))
            timelines[task_id] = events
            self.endings[_ending(entry, task)] += 1
            self.check_case(Case(entry, task, events, self._arrivals.get(task_id, []), self._slack))
        in_queue = {
            task_id: events
            for task_id, events in timelines.items()
            if events and self._ledger.entries[task_id].task.queue == queue_name
        }
        await self._check_watch(queue, in_queue)
        for task_id in self._arrivals.keys() - self._ledger.entries.keys():
            self.faults.append(f"{task_id}: it was sent, and nobody subscribed it")

    def check_case(self, case: Case) -> None:
        """Hold a task to the rules."""
        for rule in RULES:
            for fault in rule(case):
                self.found[rule.__name__] += 1
                self.faults.append(f"{case.task.task_id} ({rule.__name__}): it {fault}")
        self.recovered += case.count("RECOVERED").total()
        deliveries = Counter(arrival.attempt for arrival in case.arrivals)
        self.duplicates += deliveries.total() - len(deliveries)

    async def _check_watch(
        self,
        watcher: Watcher,
        timelines: Mapping[str, Sequence[TimelineEvent]],
        gone: Collection[str] = (),
    ) -> None:
        """Hold a watch to the timelines of its tasks; of those that are `gone` there is none."""
        await watcher.tells(
            {task_id: events[-1].sequence for task_id, events in timelines.items()}, _TELLING_S
        )
        told = {task_id: events for task_id, events in watcher.told.items() if task_id not in gone}
        found = [*watcher.faults, *watched(watcher.name, told, timelines)]
        self.found[watched.__name__] += len(found)
        self.faults += found

    async def _read(self, project: Project) -> dict[str, tuple[Task, Sequence[TimelineEvent]]]:
        """Return every task that is there, and its timeline."""
        at_once = asyncio.Semaphore(_READERS)
        found: dict[str, tuple[Task, Sequence[TimelineEvent]]] = {}

        async def read(task_id: str) -> None:
            async with at_once:
                try:
                    found[task_id] = (await project.get(task_id), await project.timeline(task_id))
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.NOT_FOUND:
                        raise

        async with asyncio.TaskGroup() as group:
            for task_id in self._ledger.entries:
                group.create_task(read(task_id))
        return found


def _ending(entry: Entry, task: Task | None) -> str:
    if task is None:
        return "PURGED" if entry.tried("purge") else "LOST" if entry.acknowledged else "NEVER ACCEPTED"
    return state_name(task)
