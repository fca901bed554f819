"""Clients that go on through every fault, and write down what they were told."""

import asyncio
import random
from collections.abc import Callable, Sequence

import grpc

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, after, duration, repeats, retries
from tests.acceptance.targets import Target, now_ms
from tests.chaos.asking import NoAnswer, Refusal, asked
from tests.chaos.ledger import CHANGES, Call, Entry, Ledger
from tests.chaos.world import World

CLIENTS = 8
QUEUES = 4
#: For how long (s) a client goes on when the faults are over.
_PATIENCE_S = 20
#: Stories that are told at a time.
_STORIES = 64
#: Refusals that a race explains: the task has ended, or an attempt is in flight.
_RACED = frozenset({grpc.StatusCode.FAILED_PRECONDITION})
_METHODS = (task_pb2.HTTP_METHOD_POST, task_pb2.HTTP_METHOD_PUT, task_pb2.HTTP_METHOD_PATCH)
#: What clients do to a task, one call after the other; "" is a wait. A task that is left paused is resumed
#: when the faults are over.
_STORIES_OF: tuple[tuple[str, ...], ...] = (
    ("cancel",),
    ("", "cancel"),
    ("cancel", "purge"),
    ("pause", "", "resume"),
    ("pause", "", "resume"),
    ("pause", "", "run"),
    ("pause", "", "cancel"),
    ("pause", "", "purge"),
    ("pause",),
    ("run",),
    ("", "run"),
    ("", "get", "purge"),
    ("get",),
)


class Load:
    """A number of clients, each subscribing tasks and then meddling with some of them."""

    def __init__(self, world: World, project: Project, target: Target, seed: int) -> None:
        self.ledger = Ledger()
        self._world = world
        self._project = project
        self._target = target
        self._seed = seed
        self._slots = asyncio.Semaphore(_STORIES)

    async def run(self, over: asyncio.Event) -> None:
        """Go on until it is over and every call that was begun has come to an end."""
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(self._client(group, client, over))

    async def _client(self, group: asyncio.TaskGroup, client: int, over: asyncio.Event) -> None:
        draw = random.Random(f"{self._seed}/{client}")
        number = 0
        while not over.is_set():
            count = draw.choice([1, 1, 1, 1, 1, 1, 10])
            entries = [self._task(f"c{client}-{number + i}", draw) for i in range(count)]
            number += count
            await self._subscribe([self.ledger.open(task) for task in entries], draw, over)
            for task in entries:
                entry = self.ledger.entries[task.task_id]
                if draw.random() < 0.4 and entry.acknowledged:
                    await self._slots.acquire()
                    group.create_task(self._story(entry, over))
            # A client that does something else as well.
            await asyncio.sleep(draw.uniform(0, 0.5))

    def _task(self, task_id: str, draw: random.Random) -> task_pb2.Task:
        kind = draw.choices(["ok", "flaky", "failing", "hanging"], [12, 6, 2, 1])[0]
        task = task_pb2.Task(
            task_id=task_id,
            queue=f"q{draw.randrange(QUEUES)}",
            http_target=task_pb2.HttpTarget(
                url=self._target.url(f"/{kind}/{task_id}"),
                http_method=draw.choice(_METHODS),
                body=draw.randbytes(draw.choice([0, 16, 16, 512])),
            ),
            schedule=after(draw.choice([0, 0, 50, 500, 3_000])),
            retry_policy=retries(draw.choice([0, 2, 4]), draw.choice([5, 50, 300])),
            repeat_policy=repeats(draw.choice([0, 0, 0, 2]), 20),
        )
        if kind == "hanging":
            task.attempt_timeout.CopyFrom(duration(300))
        if draw.random() < 0.1:
            task.retry_policy.retryable_status_codes.extend([500, 503])
        if draw.random() < 0.05:
            task.schedule.start_deadline.CopyFrom(duration(1_000))
        return task

    async def _subscribe(self, entries: Sequence[Entry], draw: random.Random, over: asyncio.Event) -> None:
        """Subscribe as a careful client does: the same request again until there is an answer."""
        loop = asyncio.get_running_loop()
        give_up: float | None = None
        while give_up is None or loop.time() < give_up:
            if over.is_set() and give_up is None:
                give_up = loop.time() + _PATIENCE_S
            project = self._world.any_project(self._project, draw)
            if project is not None and await self._try_to_subscribe(project, entries):
                return
            await asyncio.sleep(draw.uniform(0.02, 0.2))

    async def _try_to_subscribe(self, project: Project, entries: Sequence[Entry]) -> bool:
        """Return whether there was an answer."""
        kind = "subscribe" if len(entries) == 1 else "batch"
        try:
            if kind == "batch":
                await self._batch(project, entries)
            else:
                task = entries[0].task
                await asked(project.subscribe(task, request_id=task.task_id))
        except NoAnswer as failure:
            self.ledger.refused[f"{kind} {failure}"] += 1
            return False
        except Refusal as refusal:
            self.ledger.faults.append(f"{kind}: {refusal}")
            return True
        self.ledger.calls[kind] += 1
        for entry in entries:
            self.ledger.acknowledge(entry)
        return True

    async def _batch(self, project: Project, entries: Sequence[Entry]) -> None:
        """Subscribe tasks in one call. Raises `NoAnswer` where it has to be made again."""
        tasks = [entry.task for entry in entries]
        results = await asked(project.batch(tasks, request_id=tasks[0].task_id))
        for entry, result in zip(entries, results, strict=True):
            code = result.error.code
            if code == grpc.StatusCode.UNAVAILABLE.value[0]:
                raise NoAnswer("UNAVAILABLE")
            if code:
                self.ledger.faults.append(f"batch: {entry.task.task_id}: {result.error.message}")

    async def _story(self, entry: Entry, over: asyncio.Event) -> None:
        draw = random.Random(f"{self._seed}/{entry.task.task_id}")
        try:
            for action in draw.choice(_STORIES_OF):
                if not action:
                    await asyncio.sleep(draw.uniform(0.2, 3))
                else:
                    # Also a Purge: a Subscribe that is carried out after it, late, makes nothing.
                    await self.call(entry, action, draw)
        finally:
            self._slots.release()

    async def call(self, entry: Entry, action: str, draw: random.Random) -> None:
        """Make one call about a task, and write it down."""
        project = self._world.any_project(self._project, draw)
        if project is None:
            return
        call = Call(action, now_ms())
        entry.calls.append(call)
        make: Callable[[str], asyncio.Future[task_pb2.Task]] = getattr(project, action)
        try:
            call.answer = await asked(make(entry.task.task_id))
        except NoAnswer as failure:
            self.ledger.refused[f"{action} {failure}"] += 1
            return
        except Refusal as refusal:
            call.refused = True
            self.ledger.refused[f"{action} {refusal.code.name}"] += 1
            gone = refusal.code is grpc.StatusCode.NOT_FOUND and entry.tried("purge")
            if not gone and not (action in CHANGES and refusal.code in _RACED):
                self.ledger.faults.append(f"{action} {entry.task.task_id}: {refusal}")
        else:
            self.ledger.calls[action] += 1
        call.answered_ms = now_ms()
