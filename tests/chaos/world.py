"""What faults are done to: a store of its own, and three servers on it, two of them with two workers."""

import asyncio
import os
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
from tests.supervision.processes import all_gone, descendants, proc

PARTITIONS = 8
#: Of each server: with one there is no supervisor, the process that was started does the work.
WORKERS = (2, 2, 1)
LEASE_MS = 1_000
#: Losses of an attempt after which its task is POISON.
MAX_LOSSES = 5

_ENVIRONMENT = {
    "TASKS_DATABASE__PARTITIONS": str(PARTITIONS),
    "TASKS_DATABASE__REDIS__TIMEOUT_MS": "1000",
    "TASKS_SERVICE__LEASE_MS": str(LEASE_MS),
    "TASKS_SERVICE__MAX_LOSSES": str(MAX_LOSSES),
    "TASKS_SERVICE__QUEUE__LIMIT": "1000000",
    "TASKS_GRACE": "2",
}
#: What a server says that gave up because there was no store: an init system starts it again.
_NO_STORE = "does not serve"


class Instance(Server):
    """A server that can be killed, stopped, frozen and started again, and the channel to it while it runs.

    `turn`: held by who does something to it.
    """

    def __init__(self, directory: Path, store_url: str, workers: int) -> None:
        directory.mkdir()
        more = {**_ENVIRONMENT, "TASKS_WORKERS": str(workers)}
        super().__init__(directory, "--redis-url", store_url, *LOOPBACK, env=more)
        self.turn = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None

    @property
    def process(self) -> CommandProcess:
        assert self._process is not None
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None

    def family(self) -> list[int]:
        """Return the process ids of all that it consists of; the one that was started is the first."""
        return [self.process.pid, *descendants(self.process.pid)]

    def workers(self) -> list[int]:
        """Return the process ids of those that do the work; none: it is just starting others."""
        if not self.supervised:
            return [self.process.pid]
        return [pid for pid in self.family() if b"kuueri_grpc.worker" in proc(pid, "cmdline")]

    @property
    def supervised(self) -> bool:
        """Whether the process that was started has workers."""
        return self._env["TASKS_WORKERS"] != "1"

    def project(self, project: Project) -> Project | None:
        """Return the project as it calls this instance; None while it does not run."""
        return project.on(self._channel) if self._channel is not None else None

    async def begin(self) -> None:
        """Start it, as often as it takes until there is a store, and connect to it."""
        while True:
            said = len(self.log) if self._log.exists() else 0
            try:
                await asyncio.to_thread(self.start)
            except AssertionError:
                assert self._process is not None
                self._process.wait()
                self._process = None
                if _NO_STORE not in self.log[said:]:
                    raise
            else:
                break
        self._open = connected(self.address)
        self._channel = await self._open.__aenter__()

    async def crash(self) -> int:
        """End it, all its processes, as a crash does; return how many workers there were."""
        workers, family = self.workers(), self.family()
        leaving, self._channel = self._channel, None
        for pid in family:  # the one that would replace the others first
            kill(pid)
        process, self._process = self.process, None
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        await all_gone(family)
        await self._close(leaving)
        return len(workers)

    async def end(self) -> None:
        """Stop it as an init system does: it must exit with 0, whatever it has been through."""
        family = self.family()
        leaving, self._channel = self._channel, None
        process, self._process = self.process, None
        process.send(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait) == 0, self.log
        process.assert_group_is_gone()
        await all_gone(family)
        await self._close(leaving)

    async def _close(self, channel: grpc.aio.Channel | None) -> None:
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


def kill(pid: int) -> None:
    """End a process as a crash does, if it has not ended."""
    _send(pid, signal.SIGKILL)


@asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Stop a process from doing anything while the block runs."""
    _send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(pid, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


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
    instances = [Instance(directory / f"server-{i}", store.url, workers) for i, workers in enumerate(WORKERS)]
    try:
        await asyncio.gather(*(instance.begin() for instance in instances))
        yield World(store, instances)
        for instance in instances:
            await instance.end()
    finally:
        for instance in instances:
            if instance.running:
                await instance.crash()
