"""The account after the faults: what was acknowledged has ended, and every duplicate is explained."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from kuueri_grpc.domain.state import TERMINAL_STATES, TaskState
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, of_type, state_name, types
from tests.acceptance.targets import Exchange, Target
from tests.chaos.load import Ledger

#: For what is still under way when the faults end: long waits, retries, leases.
SETTLING_S = 90
#: Clients and target share this process: a request may lie in a socket while a Cancel's answer is read.
#: (`test_cancel_race` leaves no slack.)
CANCEL_SLACK_MS = 1_000
_TERMINAL_EVENTS = {"COMPLETED", "FAILED", "CANCELED", "EXPIRED"}


def task_of(exchange: Exchange) -> str:
    return exchange.path.rpartition("/")[2]


async def all_ended(project: Project, ledger: Ledger) -> float:
    """Let go what is paused, wait until no task is live, and return how long that took, in s."""
    began = time.monotonic()
    for task_id in ledger.paused & ledger.acknowledged:
        if state_name(await project.get(task_id)) not in TERMINAL_STATES:
            await project.resume(task_id)
    try:
        async with asyncio.timeout(SETTLING_S):
            # The project's own count, and not a stream: it is one of the things to be checked.
            while (await project.facts()).task_in_queue != 0:  # noqa: ASYNC110  it is the server that is asked
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(await _still_live(project, ledger)) from None
    return time.monotonic() - began


async def _still_live(project: Project, ledger: Ledger) -> str:
    """Say what has not ended, and what is known of it."""
    count = (await project.facts()).task_in_queue
    lines = [f"{count} tasks are live {SETTLING_S} s after the last fault, says the project; ListTasks has:"]
    for state in set(TaskState) - TERMINAL_STATES:
        page = await project.list(state=f"TASK_STATE_{state}", page_size=20)
        for task in page.tasks:
            known = "accepted" if task.task_id in ledger.acknowledged else "never acknowledged"
            lines.append(f"{task.task_id} ({known}) {state}: {types(await project.timeline(task.task_id))}")
    return "\n  ".join(lines)


class Account:
    """Compares the ledger, the target's record and the timelines."""

    def __init__(self, ledger: Ledger, target: Target) -> None:
        self.ledger = ledger
        self.faults: list[str] = []
        self.endings: Counter[str] = Counter()
        self.recovered = 0
        self.duplicates = 0
        self._arrivals: defaultdict[str, list[Exchange]] = defaultdict(list)
        for exchange in target.exchanges:
            self._arrivals[task_of(exchange)].append(exchange)

    @property
    def ended_count(self) -> int:
        """How many acknowledged tasks have ended."""
        return sum(self.endings[state] for state in TERMINAL_STATES)

    async def check(self, project: Project) -> None:
        """Check every acknowledged task, and that nothing else was sent."""
        for task_id in sorted(self.ledger.acknowledged):
            task = await project.get(task_id)
            self.endings[state_name(task)] += 1
            self._check_task(task_id, state_name(task), await project.timeline(task_id), task.attempt_count)
        for task_id in self._arrivals.keys() - self.ledger.acknowledged:
            # Accepted, and the answer lost for good: allowed, since its client was never told no.
            self.endings["UNACKNOWLEDGED"] += 1
            self._check_task(task_id, None, await project.timeline(task_id), None)

    def _check_task(
        self, task_id: str, state: str | None, events: Sequence[TimelineEvent], attempt_count: int | None
    ) -> None:
        told = types(events)
        if [event.sequence for event in events] != list(range(1, len(events) + 1)):
            self.faults.append(f"{task_id}: its timeline has gaps or repeats: {told}")
        if told[-1] not in _TERMINAL_EVENTS or set(told[:-1]) & _TERMINAL_EVENTS:
            self.faults.append(f"{task_id}: its timeline does not end, or goes on after its end: {told}")
        if state is not None and told[-1] != state:
            self.faults.append(f"{task_id}: it is {state}, its timeline ends with {told[-1]}")
        recoveries = Counter(event.attempt for event in of_type(events, "RECOVERED"))
        dispatches = Counter(event.attempt for event in of_type(events, "DISPATCHED"))
        self.recovered += recoveries.total()
        if attempt_count is not None and attempt_count != len(dispatches):
            self.faults.append(f"{task_id}: counts {attempt_count} attempts, tells of {len(dispatches)}")
        if sorted(dispatches) != list(range(1, len(dispatches) + 1)):
            self.faults.append(f"{task_id}: attempts are not numbered 1, 2, 3 ...: {sorted(dispatches)}")
        self._check_arrivals(task_id, recoveries, dispatches)
        if state == "COMPLETED" and "SUCCEEDED" not in told:
            self.faults.append(f"{task_id}: completed without a success: {told}")

    def _check_arrivals(self, task_id: str, recoveries: Counter[int], dispatches: Counter[int]) -> None:
        arrivals = Counter(exchange.attempt for exchange in self._arrivals[task_id])
        for attempt, count in arrivals.items():
            self.duplicates += count - 1
            if count > 1 + recoveries[attempt]:
                explained = f"arrived {count} times, recovered {recoveries[attempt]} times"
                self.faults.append(f"{task_id}: attempt {attempt} {explained}")
            if count > dispatches[attempt]:
                self.faults.append(
                    f"{task_id}: attempt {attempt} arrived {count} times, dispatched {dispatches[attempt]}"
                )
        cancelled_ms = self.ledger.cancelled_ms.get(task_id)
        if cancelled_ms is not None and any(
            exchange.received_ms > cancelled_ms + CANCEL_SLACK_MS for exchange in self._arrivals[task_id]
        ):
            self.faults.append(f"{task_id}: an attempt began after Cancel had answered")
