"""The installed command with an admin endpoint."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from tests.acceptance.caller import Project, connected, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.telemetry.scrape import Numbers, scrape

_ADMIN = re.compile(r"metrics and health are on ([\d.]+:\d+)")
_WORKER = re.compile(r"worker process (\d+) serves")
#: What a killed worker held is soon taken again; one that stands still for two seconds keeps it.
_ENVIRONMENT = {"TASKS_SERVICE__LEASE_MS": "3000", "TASKS_DATABASE__PARTITIONS": "8"}


@dataclass
class Administered:
    """A running server, its admin endpoint, and a project on it."""

    server: Server
    channel: grpc.aio.Channel
    project: Project

    @property
    def admin(self) -> str:
        found = _ADMIN.search(self.server.log)
        assert found is not None, self.server.log
        return found[1]

    @property
    def worker_pids(self) -> list[int]:
        return [int(pid) for pid in _WORKER.findall(self.server.log)]

    async def numbers(self) -> Numbers:
        return await scrape(self.admin)

    async def numbers_when(self, reached: Callable[[Numbers], bool]) -> Numbers:
        """Return the first numbers that are as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not reached(seen := await self.numbers()):
                pass
        return seen


@asynccontextmanager
async def administered(directory: Path, *options: str) -> AsyncIterator[Administered]:
    """Run `kuueri serve` until the block ends."""
    server = Server(directory, "--admin-port", "0", *LOOPBACK, *options, env=_ENVIRONMENT)
    with server:
        async with connected(server.address) as channel:
            yield Administered(server, channel, await register(channel))
