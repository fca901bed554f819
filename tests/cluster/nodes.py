"""A real Valkey cluster on loopback: processes that are started, introduced to each other, killed and ended.

What a node says on its standard output is the signal for everything that takes it a while.
"""

import asyncio
import contextlib
import itertools
import random
import re
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ResponseError

from kuueri_grpc.store import embedded

#: How long anything may take before a test gives up on it.
PATIENCE_S = 30
SLOTS = 16_384
#: Long enough for nodes on a busy machine to meet, and not to be taken for dead.
PATIENT_MS = 8_000
#: For tests of fail-overs: a dead node is noticed after this and up to a second.
IMPATIENT_MS = 1_500
_BUS_OFFSET = 10_000

MOVED = "finished. State: success"
READY = "Ready to accept connections"
WHOLE = "Cluster state changed: ok"
ELECTED = "Failover election won"
SYNCED = "PRIMARY <-> REPLICA sync: Finished with success|Successful partial resynchronization"


def slot_of(key: str) -> int:
    return int(key_slot(key.encode()))


async def ask(client: Redis, *command: str | int) -> Any:
    """Send a command that the library has no method for."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


class Node:
    """One valkey-server in cluster mode."""

    def __init__(self, directory: Path, port: int, *options: str) -> None:
        self.directory = directory
        self.port = port
        self.lines: list[str] = []
        self._options = options
        self._news = asyncio.Event()
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        directory.mkdir(parents=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def client(self) -> Redis:
        """Return a client of this node, whatever the cluster thinks of it."""
        return Redis(port=self.port, retry=Retry(NoBackoff(), 0))

    async def id(self) -> str:
        """Return its name in the cluster."""
        async with self.client() as client:
            return str((await ask(client, "CLUSTER", "MYID")).decode())

    async def start(self) -> Self:
        """Start it, on the data and with the acquaintances it had; return when it answers."""
        seen = len(self.lines)
        self._process = await asyncio.create_subprocess_exec(
            embedded.server_binary(), *self._arguments(), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        self._reader = asyncio.create_task(self._read(self._process))
        await self.said(READY, after=seen)
        return self

    def _arguments(self) -> Iterable[str]:
        return (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--cluster-enabled", "yes"),
            *("--cluster-node-timeout", str(PATIENT_MS)),
            # Not every second: with a slow disk a node that is killed would lose what it acknowledged.
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            # A replica may take over however long it has not heard of its primary, and need not wait for
            # others before it copies it.
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
            *self._options,
        )

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())
            self._tell()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def said(self, pattern: str, after: int = 0) -> str:
        """Return the first line with `pattern`, from the line number `after` on, when it is there."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    for line in itertools.islice(self.lines, after, None):
                        if re.search(pattern, line):
                            return line
                    assert self.running, self._told("it has ended")
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(self._told(f"it has not said {pattern!r}")) from None

    def _told(self, what: str) -> str:
        return "\n".join([f"node {self.address}: {what}", *self.lines[-40:]])

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it in order."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        await process.wait()
        assert self._reader is not None
        await self._reader

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Cluster:
    """Primaries that share the slots evenly, and replicas: the n-th of them follows the n-th primary."""

    def __init__(self, nodes: Sequence[Node], primaries: int) -> None:
        self.nodes = nodes
        self.primaries = nodes[:primaries]
        self.replicas = nodes[primaries:]

    @property
    def url(self) -> str:
        """Its address, by all nodes: any of them may be gone in a test."""
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def owner(self, key: str) -> Node:
        """Return the primary that was given a key's slot when the cluster was made."""
        return self.primaries[slot_of(key) * len(self.primaries) // SLOTS]

    def successor(self, primary: Node) -> Node:
        """Return the replica of a primary."""
        return self.replicas[list(self.primaries).index(primary)]

    async def whole_again(self, seen: Mapping[Node, int]) -> None:
        """Return when every node has said so, after the lines that it had said before."""
        await asyncio.gather(*(node.said(WHOLE, after=count) for node, count in seen.items()))

    async def fail_over(self, primary: Node) -> Node:
        """Kill a primary; return its successor when it has taken over and all others know."""
        seen = {node: len(node.lines) for node in self.nodes if node is not primary}
        await primary.kill()
        await self.whole_again(seen)
        return self.successor(primary)

    async def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Let a slot go over to another primary, with all its keys at once."""
        seen = len(source.lines)
        async with source.client() as client:
            to = await target.id()
            await ask(client, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to)
        await source.said(MOVED, after=seen)

    async def move_keys(self, slot: int, source: Node, target: Node) -> int:
        """Let a slot go over to another primary key by key; return how many there were."""
        moved = 0
        async with source.client() as old, target.client() as new:
            await ask(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", await source.id())
            await ask(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", await target.id())
            while names := await ask(old, "CLUSTER", "GETKEYSINSLOT", slot, 10):
                await ask(old, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)
                moved += len(names)
            for client in (new, old):
                await ask(client, "CLUSTER", "SETSLOT", slot, "NODE", await target.id())
        return moved

    async def caught_up(self, primary: Node, replica: Node | None = None) -> None:
        """Return when a replica, by default its own, has all that a primary has written before this."""
        replica = replica or self.successor(primary)
        async with primary.client() as source, replica.client() as copy, asyncio.timeout(PATIENCE_S):
            written = (await source.info("replication"))["master_repl_offset"]
            # Nobody tells when.
            while (await copy.info("replication")).get("slave_repl_offset", -1) < written:
                pass

    async def hand_over(self, successor: Node) -> None:
        """Let a replica take over in order, when it has all that its primary has."""
        seen = len(successor.lines)
        async with successor.client() as client:
            await ask(client, "CLUSTER", "FAILOVER")
        await successor.said(ELECTED, after=seen)

    @contextlib.asynccontextmanager
    async def another_node(self, directory: Path) -> AsyncIterator[Node]:
        """Run a node that the others get to know, and that serves nothing; it is gone afterwards."""
        (port,) = _free_ports(1)
        node = Node(directory, port)
        try:
            await node.start()
            async with node.client() as client:
                await ask(client, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
            yield node
        finally:
            await node.kill()

    async def follow(self, node: Node, primary: Node) -> None:
        """Make a node the replica of a primary; return when it has copied it."""
        seen = len(node.lines)
        async with node.client() as client:
            await _follow(client, await primary.id())
        await node.said(SYNCED, after=seen)

    async def be_impatient(self) -> None:
        """Let a dead primary be replaced soon."""
        for node in self.nodes:
            async with node.client() as client:
                await client.config_set("cluster-node-timeout", IMPATIENT_MS)

    async def form(self) -> None:
        """Introduce the nodes to each other and share out the slots; return when it serves."""
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(node.client()) for node in self.nodes]
            for number, client in enumerate(clients):
                # Different from the start: nodes that agree on it would have to settle that first.
                await ask(client, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for earlier in self.nodes[:number]:
                    await ask(client, "CLUSTER", "MEET", "127.0.0.1", earlier.port)
            for (first, last), client in zip(_shares(len(self.primaries)), clients, strict=False):
                await ask(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
            for primary, replica in zip(self.nodes, clients[len(self.primaries) :], strict=False):
                await _follow(replica, await primary.id())
        await asyncio.gather(
            *(node.said(WHOLE) for node in self.nodes), *(node.said(SYNCED) for node in self.replicas)
        )
        await asyncio.gather(*(self._all_are_known_to(node) for node in self.nodes))

    async def _all_are_known_to(self, node: Node) -> None:
        """Return when a node tells of all: of a replica not before it has heard of what that has copied."""
        async with asyncio.timeout(PATIENCE_S), node.client() as client:
            # Nobody tells when.
            while len(_told_of(await ask(client, "CLUSTER", "SLOTS"))) < len(self.nodes):
                pass


@contextlib.asynccontextmanager
async def cluster(
    directory: Path, *options: str, primaries: int = 3, replicas: int = 3, form: bool = True
) -> AsyncIterator[Cluster]:
    """Run a cluster; every process of it is gone afterwards. `options` are valkey-server's, for all nodes."""
    ports = _free_ports(primaries + replicas)
    nodes = [Node(directory / str(port), port, *options) for port in ports]
    try:
        # At the same time, and all have been started whatever becomes of one.
        started = await asyncio.gather(*(node.start() for node in nodes), return_exceptions=True)
        for failure in started:
            if isinstance(failure, BaseException):
                raise failure
        made = Cluster(nodes, primaries)
        if form:
            await made.form()
        yield made
    finally:
        await asyncio.gather(*(node.kill() for node in nodes))


def _told_of(slots: Sequence[Sequence[Any]]) -> set[int]:
    """Return the ports of the nodes in an answer of CLUSTER SLOTS."""
    return {port for _, _, *nodes in slots for _, port, *_ in nodes}


async def _follow(replica: Redis, primary_id: str) -> None:
    """Make a node a replica as soon as it has heard of its primary."""
    while True:
        try:
            await ask(replica, "CLUSTER", "REPLICATE", primary_id)
        except ResponseError as error:
            if "Unknown node" not in str(error):
                raise
            # There are no replicas to wait for yet: the node itself waits 20 ms.
            await ask(replica, "WAIT", 1, 20)
        else:
            return


def _free_ports(count: int) -> list[int]:
    """Return ports of which the one for the cluster's bus is free as well, and is none of the others.

    Below those that the system gives to connections, so that nobody takes one in between.
    """
    candidates = list(range(_BUS_OFFSET, 2 * _BUS_OFFSET))
    random.shuffle(candidates)
    free = (port for port in candidates if _is_free(port) and _is_free(port + _BUS_OFFSET))
    return list(itertools.islice(free, count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _shares(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last slot of each primary."""
    bounds = [-(-SLOTS * number // count) for number in range(count + 1)]
    return ((first, after - 1) for first, after in itertools.pairwise(bounds))
