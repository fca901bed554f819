"""Tasks that are accepted one after the other through a fail-over, and what became of each."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import grpc.aio

from tests.acceptance.caller import Project, post, types
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import Target
from tests.cluster.nodes import Node


@dataclass
class Load:
    """Subscribes tasks of one project until it is stopped, each as often as it takes to be accepted.

    It can be run again when it was stopped.

    `accepted`: task id by the instant of the answer (monotonic s). `refused`: instants of UNAVAILABLE.
    `paths`: where each task is sent.
    """

    project: Project
    node: Node
    target: Target
    accepted: dict[str, float] = field(default_factory=dict)
    refused: list[float] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _stopped: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        self._stopped = False
        while not self._stopped:
            await self._subscribe(f"{self.node.port}-{next(self._numbers)}")

    async def _subscribe(self, name: str) -> None:
        path = f"/{name}"
        while True:
            try:
                # With the name of the call, so that repeating it makes no second task.
                task = await self.project.subscribe(post(self.target.url(path)), request_id=name)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self.refused.append(time.monotonic())
            else:
                self.accepted[task.task_id] = time.monotonic()
                self.paths[task.task_id] = path
                self._news.set()
                return

    def stop(self) -> None:
        self._stopped = True

    async def more_accepted(self, count: int) -> None:
        """Return when `count` more tasks were accepted."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(PATIENCE_S):
            while len(self.accepted) < wanted:
                self._news.clear()
                await self._news.wait()

    def accepted_between(self, start: float, end: float) -> set[str]:
        return {task_id for task_id, at in self.accepted.items() if start <= at < end}


@dataclass
class Fate:
    """What became of the accepted tasks of one load."""

    ended: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    #: Delivered twice, and the timeline says why: RECOVERED.
    recovered: set[str] = field(default_factory=set)
    #: Delivered twice, and the timeline knows of one: what it said of the other is lost.
    forgotten: set[str] = field(default_factory=set)


async def fate_of(load: Load) -> Fate:
    """Return what became of each accepted task, when all that are still there have ended."""
    fate = Fate()
    timelines: dict[str, list[str]] = {}
    at_once = asyncio.Semaphore(50)

    async def follow(task_id: str) -> None:
        async with at_once:
            try:
                _, events = await load.project.ended(task_id)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                fate.lost.add(task_id)
            else:
                timelines[task_id] = types(events)
                fate.ended.add(task_id)

    async with asyncio.TaskGroup() as group:
        for task_id in load.accepted:
            group.create_task(follow(task_id))
    deliveries = Counter(exchange.path for exchange in load.target.exchanges)
    for task_id, told in timelines.items():
        count = deliveries[load.paths[task_id]]
        assert told[-1] == "COMPLETED", (task_id, told)
        assert count > 0, (task_id, told)
        if count > 1:
            (fate.recovered if "RECOVERED" in told else fate.forgotten).add(task_id)
    return fate
