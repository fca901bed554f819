"""Cancel holds: 1,000 tasks are canceled at about the moment at which they are due.

When a Cancel has answered, everything that the server sent before is in the sockets of the target, which
are then read to their end. A request that arrives later belongs to an attempt that started after Cancel
had answered: there must be none. The seed is printed; it decides when each task is canceled.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, after, connected, post, register, repeats, types
from tests.acceptance.raw_target import RawTarget
from tests.acceptance.served import LOOPBACK, Server

#: Wave after wave, so that a slow machine takes longer and does not fall behind; more of them where it so
#: seldom cancels at the right moment that too few attempts were in flight.
WAVES, MOST_WAVES, TASKS_PER_WAVE = 50, 400, 20
ENOUGH_IN_FLIGHT = WAVES * TASKS_PER_WAVE // 50
FIRST_DELAY_MS, SPACING_MS = 30, 2
#: When a task is canceled, counted from when it is due.
EARLIEST_MS, LATEST_MS = -5, 15
SLOWEST_ANSWER_MS = 30


@asynccontextmanager
async def running(servers: Sequence[Server]) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Start servers and connect to each; at the end of the block they are stopped."""
    async with AsyncExitStack() as stack:
        for server in servers:
            await asyncio.to_thread(server.__enter__)
            stack.push(server.__exit__)
        yield [await stack.enter_async_context(connected(server.address)) for server in servers]
        for server in servers:
            await asyncio.to_thread(server.stop)


class Race:
    """The tasks of one race, and how often each had arrived when its Cancel answered."""

    def __init__(self, project: Project, callers: Sequence[Project], target: RawTarget, draw: random.Random):
        self.frozen: dict[str, int] = {}
        self.kinds: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._project = project
        self._callers = callers
        self._target = target
        self._draw = draw

    async def run(self) -> None:
        """Subscribe and cancel all tasks."""
        for wave in range(MOST_WAVES):
            if wave >= WAVES and self._saw_enough():
                break
            results = await self._project.batch([self._task(wave, i) for i in range(TASKS_PER_WAVE)])
            assert all(result.HasField("task") for result in results)
            await asyncio.gather(*(self._cancel_when_due(result.task) for result in results))
            for result in results:
                task_id = result.task.task_id
                self.kinds[self._kind(task_id, await self._project.timeline(task_id))] += 1

    def _saw_enough(self) -> bool:
        sent, unsent = self.kinds["in flight, sent"], self.kinds["in flight, not sent yet"]
        return sent > 0 and sent + unsent >= ENOUGH_IN_FLIGHT

    def _task(self, wave: int, i: int) -> task_pb2.Task:
        task_id = f"t-{wave}-{i}"
        delay_ms = FIRST_DELAY_MS + SPACING_MS * i
        task = post(self._target.url(task_id), task_id=task_id, schedule=after(delay_ms))
        if i % 2:
            # Its next attempts keep coming: Cancel has to end that, too.
            task.repeat_policy.CopyFrom(repeats(3))
        return task

    async def _cancel_when_due(self, task: task_pb2.Task) -> None:
        due_ms = task.schedule_time.ToMilliseconds()
        wait_ms = due_ms + self._draw.uniform(EARLIEST_MS, LATEST_MS) - time.time() * 1_000
        caller = self._draw.choice(self._callers)
        await asyncio.sleep(wait_ms / 1_000)
        try:
            await caller.cancel(task.task_id)
        except grpc.aio.AioRpcError as error:
            # It has ended by itself, which is as final.
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            self.refused[task.task_id] += 1
        self._target.drain_now()
        self.frozen[task.task_id] = self._target.arrivals[task.task_id]

    def _kind(self, task_id: str, events: Sequence[TimelineEvent]) -> str:
        """Say what Cancel found the task doing."""
        if self.refused[task_id]:
            return "had ended"
        *before, last = types(events)
        assert last == "CANCELED", (task_id, types(events))
        if before[-1] == "DISPATCHED":
            sent = self.frozen[task_id] == before.count("DISPATCHED")
            return "in flight, sent" if sent else "in flight, not sent yet"
        return "waiting again" if "DISPATCHED" in before else "waiting"


@pytest.mark.timeout(400)
async def test_no_attempt_starts_after_cancel_has_answered(tmp_path: Path) -> None:
    await race([Server(tmp_path, *LOOPBACK)])


@pytest.mark.timeout(400)
async def test_nor_on_two_servers_of_which_the_other_has_claimed_the_task(
    tmp_path: Path, store_url: str
) -> None:
    servers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        servers.append(Server(tmp_path / name, *LOOPBACK, "--redis-url", store_url))
    await race(servers)


async def race(servers: Sequence[Server]) -> None:
    """Run a race and judge it."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  pytest shows it when the test fails, and with -rP
    draw = random.Random(seed)
    target = RawTarget(draw, SLOWEST_ANSWER_MS)
    async with running(servers) as channels:
        project = await register(channels[0])
        race = Race(project, [project.on(channel) for channel in channels], target, draw)
        await race.run()
    # The servers have ended: nothing can come any more.
    target.drain_now()
    target.close()

    print(f"Cancel found the tasks: {dict(race.kinds)}")  # noqa: T201
    started_later = {
        task_id: (count, target.arrivals[task_id])
        for task_id, count in race.frozen.items()
        if target.arrivals[task_id] > count
    }
    assert started_later == {}
    assert len(race.frozen) == race.kinds.total() >= WAVES * TASKS_PER_WAVE
    assert race.kinds["in flight, sent"] > 0
    assert race.kinds["in flight, sent"] + race.kinds["in flight, not sent yet"] >= ENOUGH_IN_FLIGHT
