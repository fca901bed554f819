"""The embedded store is killed again and again while tasks come in: what was acknowledged is there."""

import asyncio
import itertools
import os
import signal
from pathlib import Path

import grpc
import grpc.aio
from redis.asyncio import Redis

from tests.acceptance.caller import Project, after, connected, post, register
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import Target
from tests.supervision.calls import persistent
from tests.supervision.processes import serving

#: After each the store is away for longer.
KILLS = 5
CLIENTS = 8
#: Acknowledged between two kills, so that each is one under load.
BETWEEN = 40
DAY_MS = 86_400_000


class Load:
    """Clients that subscribe one task after the other, and what was acknowledged to them."""

    def __init__(self, project: Project, url: str) -> None:
        self.acknowledged: list[str] = []
        self._project = project
        self._url = url
        self._numbers = itertools.count()
        self._news = asyncio.Condition()

    async def run(self) -> None:
        while True:
            task_id = f"task-{next(self._numbers)}"
            try:
                await self._project.subscribe(post(self._url, task_id=task_id, schedule=after(DAY_MS)))
            except grpc.aio.AioRpcError as error:
                # Not repeated: only what was acknowledged at once is held against the store.
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                continue
            async with self._news:
                self.acknowledged.append(task_id)
                self._news.notify_all()

    async def goes_on(self) -> None:
        """Return when some more were acknowledged."""
        wanted = len(self.acknowledged) + BETWEEN
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.acknowledged) >= wanted)


async def test_kills_of_the_embedded_store_lose_nothing(tmp_path: Path, target: Target) -> None:
    limit = {"TASKS_SERVICE__QUEUE__LIMIT": "1000000"}
    async with serving(tmp_path, "--workers", "1", "--fsync", "always", env=limit) as served:
        await served.ready()
        async with Redis.from_url(served.store_url, decode_responses=True) as store:
            assert await store.config_get("appendfsync") == {"appendfsync": "always"}
        async with connected(served.address) as channel:
            project = await register(channel)
            load = Load(project, target.url("/never"))
            async with asyncio.TaskGroup() as group:
                clients = [group.create_task(load.run()) for _ in range(CLIENTS)]
                for kill in range(1, KILLS + 1):
                    await load.goes_on()
                    os.kill(served.store_process(), signal.SIGKILL)
                    await served.logged("the embedded store is back", count=kill)
                await load.goes_on()
                for client in clients:
                    client.cancel()

            async def is_there(task_id: str) -> bool:
                try:
                    await persistent(lambda: project.get(task_id))
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.NOT_FOUND:
                        raise
                    return False
                return True

            lost = [task_id for task_id in load.acknowledged if not await is_there(task_id)]
            assert lost == [], f"of {len(load.acknowledged)}"
        await served.stop()
