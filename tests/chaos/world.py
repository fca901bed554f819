"""What faults are done to: a store of its own, and three servers on it."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import grpc.aio
from redis.asyncio import Redis

from tests.acceptance.caller import Project, connected
from tests.acceptance.served import LOOPBACK, CommandProcess, Server
from tests.chaos.clustered import ClusterStore
from tests.cluster.nodes import cluster
from tests.outages.valkeys import running as valkey_running

PARTITIONS = 8
SERVERS = 3
LEASE_MS = 1_000

_ENVIRONMENT = {
    "TASKS_WORKERS": "1",
    "TASKS_DATABASE__PARTITIONS": str(PARTITIONS),
    "TASKS_DATABASE__REDIS__TIMEOUT_MS": "1000",
    "TASKS_SERVICE__LEASE_MS": str(LEASE_MS),
    "TASKS_SERVICE__QUEUE__LIMIT": "1000000",
    "TASKS_GRACE": "2",
}


class Instance(Server):
    """A server that can be killed, stopped, frozen and started again, and the channel to it while it runs."""

    def __init__(self, directory: Path, store_url: str) -> None:
        directory.mkdir()
        super().__init__(directory, "--redis-url", store_url, *LOOPBACK, env=_ENVIRONMENT)
        self._channel: grpc.aio.Channel | None = None

    @property
    def process(self) -> CommandProcess:
        assert self._process is not None
        return self._process

    def project(self, project: Project) -> Project | None:
        """Return the project as it calls this instance; None while it does not run."""
        return project.on(self._channel) if self._channel is not None else None

    async def begin(self) -> None:
        """Start it and connect to it."""
        await asyncio.to_thread(self.start)
        self._open = connected(self.address)
        self._channel = await self._open.__aenter__()

    async def crash(self) -> None:
        """End it as a crash does."""
        await self._disconnect()
        await asyncio.to_thread(self.kill)

    async def end(self) -> None:
        """Stop it as an init system does: it must exit with 0, whatever it has been through."""
        await self._disconnect()
        process, self._process = self.process, None
        process.send(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0, self.log
        process.assert_group_is_gone()

    async def _disconnect(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await self._open.__aexit__(None, None, None)


class Store(Protocol):
    """What faults are done to: one server, or a cluster, of which one node is hit."""

    @property
    def url(self) -> str: ...

    def client(self) -> Redis: ...

    def kill(self) -> Awaitable[None] | None: ...

    async def start(self) -> None: ...

    async def loaded(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class World:
    """The store and the servers."""

    def __init__(self, store: Store, instances: Sequence[Instance]) -> None:
        self.store = store
        self.instances = instances

    def any_project(self, project: Project, draw: random.Random) -> Project | None:
        """Return the project as it calls one of the instances that run."""
        live = [found for instance in self.instances if (found := instance.project(project)) is not None]
        return draw.choice(live) if live else None


@asynccontextmanager
async def one_server(directory: Path) -> AsyncIterator[Store]:
    """Run a store of one server."""
    async with valkey_running(directory) as store:
        yield store


@asynccontextmanager
async def three_primaries(directory: Path, draw: random.Random) -> AsyncIterator[Store]:
    """Run a cluster, each of whose primaries has a replica."""
    async with cluster(directory) as made:
        yield ClusterStore(made, draw)


@asynccontextmanager
async def running(directory: Path, store: Store) -> AsyncIterator[World]:
    """Run a world on a store; end every process that it has, in order where that is possible."""
    instances = [Instance(directory / f"server-{i}", store.url) for i in range(SERVERS)]
    try:
        for instance in instances:
            await instance.begin()
        yield World(store, instances)
        for instance in instances:
            await instance.end()
    finally:
        for instance in instances:
            if instance._process is not None and instance._process.running:
                instance._process.send_to_group(signal.SIGKILL)
                instance._process.wait()
