"""Clients that go on through every fault, and the ledger of what was acknowledged to them."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field

import grpc
import grpc.aio

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, after, post, repeats, retries
from tests.acceptance.targets import Target, now_ms
from tests.chaos.world import World

CLIENTS = 8
_CALL_TIMEOUT_S = 6.0
#: What a call may be answered while something is broken; all else is a fault of the server.
_EXPECTED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
#: Refusals that a race explains: the task has ended, or an attempt is in flight, or it was purged.
_RACED = frozenset({grpc.StatusCode.FAILED_PRECONDITION})


@dataclass
class Ledger:
    """What the servers have said yes to. Times are in ms since 1970."""

    acknowledged: set[str] = field(default_factory=set)
    cancelled_ms: dict[str, int] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Load:
    """A number of clients, each subscribing tasks and then meddling with some of them."""

    def __init__(self, world: World, project: Project, target: Target, seed: int) -> None:
        self.ledger = Ledger()
        self._world = world
        self._project = project
        self._target = target
        self._seed = seed

    async def run(self, until: float) -> None:
        """Go on until the event loop's time `until`."""
        async with asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(self._client(random.Random(f"{self._seed}/{client}"), client, until))

    async def _client(self, draw: random.Random, client: int, until: float) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        while loop.time() < until:
            number += 1
            task = self._task(f"c{client}-{number}", draw)
            await self._subscribe(task, draw, until + 20)
            if draw.random() < 0.4 and task.task_id in self.ledger.acknowledged:
                await self._meddle(task.task_id, draw)

    def _task(self, task_id: str, draw: random.Random) -> task_pb2.Task:
        path = draw.choices(["/ok", "/flaky", "/failing", "/slow"], [6, 3, 1, 1])[0]
        return post(
            self._target.url(f"{path}/{task_id}"),
            task_id=task_id,
            queue=f"q{draw.randrange(4)}",
            schedule=after(draw.choice([0, 0, 50, 500, 3_000])),
            retry_policy=retries(draw.choice([0, 3, 8]), draw.choice([5, 50, 300])),
            repeat_policy=repeats(draw.choice([0, 0, 0, 2]), 20),
        )

    async def _subscribe(self, task: task_pb2.Task, draw: random.Random, give_up: float) -> None:
        """Subscribe as a careful client does: the same request again until there is an answer."""
        loop = asyncio.get_running_loop()
        while loop.time() < give_up:
            project = self._world.any_project(self._project, draw)
            if project is None:
                await asyncio.sleep(0.05)
                continue
            try:
                await _answered(project.subscribe(task, request_id=task.task_id))
            except (grpc.aio.AioRpcError, TimeoutError, grpc.aio.UsageError) as error:
                self._note_refusal("subscribe", error)
                await asyncio.sleep(draw.uniform(0.02, 0.2))
            else:
                self.ledger.calls["subscribe"] += 1
                self.ledger.acknowledged.add(task.task_id)
                return

    async def _meddle(self, task_id: str, draw: random.Random) -> None:
        project = self._world.any_project(self._project, draw)
        if project is None:
            return
        action = draw.choice(["cancel", "pause", "run", "get"])
        if action == "pause":
            # From the moment it is tried: an answer that was lost may have paused it all the same.
            self.ledger.paused.add(task_id)
        try:
            await _answered(getattr(project, action)(task_id))
        except (grpc.aio.AioRpcError, TimeoutError, grpc.aio.UsageError) as error:
            self._note_refusal(action, error)
            return
        self.ledger.calls[action] += 1
        if action == "cancel":
            self.ledger.cancelled_ms[task_id] = now_ms()

    def _note_refusal(self, action: str, error: Exception) -> None:
        code = "TIMEOUT"
        if isinstance(error, grpc.aio.AioRpcError):
            allowed = _EXPECTED if action == "subscribe" else _EXPECTED | _RACED
            assert error.code() in allowed, f"{action}: {error.code()} {error.details()}"
            code = error.code().name
        self.ledger.refused[f"{action} {code}"] += 1


async def _answered(call: Awaitable[object]) -> None:
    """Wait for a call's answer, for as long as a client would.

    Raises:
        TimeoutError: there is none, or none any more: its channel was closed, as one is whose server ends.
    """
    try:
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        # gRPC cancels the caller of a call whose channel is closed. Let through, it would end the client and,
        # in a task group, nobody would notice.
        if task is not None and task.cancelling():
            raise
        raise TimeoutError from None
