"""Three servers on one store are replaced one after the other, under load and watched: nobody notices."""

import asyncio
import itertools
import re
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import grpc.aio
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.task_service_pb2 import WatchRequest
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, after, connected, post, register, state_name
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import OK, Answer, Exchange, Target
from tests.acceptance.watcher import Watcher, watched
from tests.supervision.calls import not_serving, persistent
from tests.supervision.processes import Served, serving
from tests.supervision.test_drain import PATIENT

pytestmark = pytest.mark.timeout(300)

PRODUCERS = 8
#: Of those that have more than one: one that is stopped, and one that takes over.
WORKERS = {"b": "2", "d": "2"}


class Front:
    """A client's view of several servers: a call goes to one, and to another if that one cannot take it."""

    def __init__(self) -> None:
        self.project: Project | None = None
        self._channels: dict[Served, grpc.aio.Channel] = {}
        self._turn = itertools.count()

    async def add(self, served: Served, stack: AsyncExitStack) -> None:
        channel = await stack.enter_async_context(connected(served.address))
        self._channels[served] = channel
        if self.project is None:
            self.project = await register(channel)

    async def stop(self, leaving: Served) -> None:
        """Stop a server; send nothing there once health checks say so, as a load balancer does."""
        leaving.send(signal.SIGTERM)
        await not_serving(self._channels[leaving])
        del self._channels[leaving]
        assert await leaving.ended() == 0, leaving.story

    def next(self) -> Project:
        assert self.project is not None
        channels = list(self._channels.values())
        return self.project.on(channels[next(self._turn) % len(channels)])


class Load:
    """Producers that subscribe a task each, wait until it came to the target, and go on."""

    def __init__(self, front: Front, target: Target) -> None:
        self.acknowledged: list[str] = []
        self.stopping = False
        self._front = front
        self._target = target
        self._numbers = itertools.count()
        self._arrival = asyncio.Event()

    async def produce(self) -> None:
        while not self.stopping:
            task_id = f"task-{next(self._numbers)}"
            came = asyncio.Event()
            url = self._target.script(f"/{task_id}", self._when_the_next_comes(came))
            task = post(url, task_id=task_id, schedule=after(100))
            await persistent(partial(self._subscribe, task))
            self.acknowledged.append(task_id)
            await came.wait()

    async def _subscribe(self, task: task_pb2.Task) -> None:
        await self._front.next().subscribe(task, request_id=task.task_id)

    async def progress(self, count: int) -> None:
        """Return when that many more requests came to the target."""
        for _ in range(count):
            await self._arrival.wait()

    def _when_the_next_comes(self, came: asyncio.Event) -> Answer:
        """Answer when another request comes: there are attempts in flight all the time."""

        async def answer(exchange: Exchange) -> None:
            self._arrival.set()
            self._arrival = asyncio.Event()
            came.set()
            if not self.stopping:
                await self._arrival.wait()
            await OK(exchange)

        return answer

    def stop(self) -> None:
        self.stopping = True
        self._arrival.set()


async def test_nothing_is_lost_and_nothing_is_sent_twice(tmp_path: Path, target: Target, store: str) -> None:
    front = Front()
    load = Load(front, target)
    async with AsyncExitStack() as stack:

        async def start(name: str) -> Served:
            options = ("--redis-url", store, "--workers", WORKERS.get(name, "1"), "--grace", "120")
            return await stack.enter_async_context(serving(tmp_path, *options, env=PATIENT, name=name))

        servers = [await start(name) for name in ("a", "b", "c")]
        for served in servers:
            await served.ready()
            await front.add(served, stack)
        watcher = Watcher("all tasks", WatchRequest(all=True), front.next)
        watching = asyncio.create_task(watcher.run())
        await watcher.began()
        producers = [asyncio.create_task(load.produce()) for _ in range(PRODUCERS)]

        for name, leaving in zip(("d", "e", "f"), servers, strict=True):
            coming = await (await start(name)).ready()
            await front.add(coming, stack)
            await load.progress(2 * PRODUCERS)
            await front.stop(leaving)
            assert not [line for line in leaving.log if re.search(" (WARNING|ERROR) ", line)], leaving.story
            await load.progress(2 * PRODUCERS)
        load.stop()
        await asyncio.gather(*producers)

        project = front.next()
        timelines: dict[str, Sequence[TimelineEvent]] = {}
        for task_id in load.acknowledged:
            task, timelines[task_id] = await project.ended(task_id)
            assert (state_name(task), task.attempt_count) == ("COMPLETED", 1), task
        came = Counter(exchange.path for exchange in target.exchanges)
        assert came == {f"/{task_id}": 1 for task_id in load.acknowledged}

        await watcher.tells({task_id: len(events) for task_id, events in timelines.items()}, PATIENCE_S)
        watching.cancel()
        assert [*watcher.faults, *watched(watcher.name, watcher.told, timelines)] == []
        assert watcher.streams > 1, "no server was stopped under it"
