"""A Valkey cluster as one client: every command goes to the node that serves its key.

`redis.asyncio.RedisCluster` does that too; why it is not used is in `docs/adr/0008-cluster.md`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from redis.crc import key_slot
from redis.event import EventDispatcher
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import TimeoutError as NoAnswer

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store import keys
from kuueri_grpc.store.client import StoreClient
from kuueri_grpc.store.cluster_nodes import ClusterNodes
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import OUTAGES
from kuueri_grpc.store.topology import NodeAddress

#: How often a command is sent at the most: to the node that is thought to serve it, to the one that does
#: by now, and once more where a slot is on its way.
_ROUNDS = 3
#: A slot that is moved key by key cannot run a script for a moment.
_TRY_AGAIN_S = 0.05
#: Commands without a key. All go to one node, which is thereby the clock of all that is in no partition.
_KEYLESS = frozenset({"TIME", "PING", "PUBLISH", "INFO", "CONFIG GET"})
#: Commands whose keys come behind a script and their number.
_SCRIPTS = frozenset({"EVAL", "EVALSHA"})
_NO_OWNER = "CLUSTERDOWN no node serves the hash slot"


class Command:
    """One command, and the slot that its keys are in."""

    __slots__ = ("arguments", "options", "slot")

    def __init__(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.arguments = arguments
        self.options = options
        self.slot = slot_of(_key(arguments))


def slot_of(key: str | bytes) -> int:
    """Return the hash slot of a key."""
    return key_slot(key.encode() if isinstance(key, str) else key)


def _key(arguments: Sequence[Any]) -> str | bytes:
    if arguments[0] in _KEYLESS:
        return keys.STORE
    key: str | bytes = arguments[3] if arguments[0] in _SCRIPTS else arguments[1]
    return key


@dataclass(frozen=True, slots=True)
class _Redirect:
    """Where a node said that a command belongs. `asking`: only this once."""

    address: NodeAddress
    asking: bool


class ClusterClient(Commands):
    """Commands to a cluster, called like those of `redis.asyncio.Redis`.

    A command whose node has lost the slot, or cannot be reached, is sent again at once to the node that
    a fresh look at the cluster names. It never waits for a fail-over: while nobody serves a slot,
    commands on it fail (`redis.exceptions.RedisError`) and those on other slots do not.
    """

    one_server = False

    def __init__(self, nodes: ClusterNodes) -> None:
        self.nodes = nodes
        # The library's typed methods are declared to have one; none of ours uses it.
        self._event_dispatcher = EventDispatcher()
        self._refusal: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.nodes.aclose()

    def refuse(self, reason: str | None) -> None:
        """See `Commands`."""
        self._refusal = reason

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Run one command; the typed methods (`get`, `hset`, `evalsha` ...) come here."""
        if arguments[0] == "SCRIPT LOAD":
            return await self._on_primaries(*arguments)
        (answer,) = await self.run([Command(arguments, options)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool) -> "ClusterBatch":
        """See `Commands`. Raises ValueError for a transaction: there is none over several nodes."""
        if transaction:
            raise ValueError("there are no transactions over several nodes")
        return ClusterBatch(self)

    async def _on_primaries(self, *arguments: Any) -> Any:
        """Run a command on all primaries; one that cannot be reached does without it."""
        topology = await self.nodes.topology()
        answers = await asyncio.gather(
            *(self.nodes.client(address).execute_command(*arguments) for address in topology.primaries),
            return_exceptions=True,
        )
        served = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not served:
            raise next((a for a in answers if isinstance(a, RedisError)), ClusterDownError(_NO_OWNER))
        return served[0]

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands, each on its node and all nodes at once; return the answers in order.

        The answer of a command that failed is the exception; the others are not affected by it.

        Raises:
            StoreUnavailable: every command is refused, see `refuse`.
        """
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)
        answers: list[Any] = [None] * len(commands)
        # By place in `commands`: what is to be sent, and where if a node said so.
        wanted: dict[int, _Redirect | None] = dict.fromkeys(range(len(commands)))
        for _ in range(_ROUNDS):
            sent_to = await self._send(commands, wanted, answers)
            wanted = await self._to_be_sent_again(commands, sent_to, answers)
            if not wanted:
                break
        return answers

    async def _send(
        self, commands: Sequence[Command], wanted: Mapping[int, _Redirect | None], answers: list[Any]
    ) -> dict[int, NodeAddress | None]:
        """Send what is wanted and put the answers in their places; return which node got what."""
        try:
            topology = await self.nodes.topology()
        except RedisError as error:
            for place in wanted:
                answers[place] = error
            return {}
        sent_to: dict[int, NodeAddress | None] = {}
        by_node: defaultdict[tuple[NodeAddress, bool], list[int]] = defaultdict(list)
        for place, redirect in wanted.items():
            address = redirect.address if redirect else topology.owner(commands[place].slot)
            sent_to[place] = address
            if address is None:
                answers[place] = ClusterDownError(_NO_OWNER)
            else:
                by_node[address, redirect is not None and redirect.asking].append(place)
        batches = [
            self._on_node(address, [commands[place] for place in places], asking=asking)
            for (address, asking), places in by_node.items()
        ]
        # Most calls are for one node: no task for that.
        answered = [await batches[0]] if len(batches) == 1 else await asyncio.gather(*batches)
        for places, batch in zip(by_node.values(), answered, strict=True):
            for place, answer in zip(places, batch, strict=True):
                answers[place] = answer
        return sent_to

    async def _on_node(self, address: NodeAddress, commands: Sequence[Command], *, asking: bool) -> list[Any]:
        client = self.nodes.client(address)
        try:
            if len(commands) == 1 and not asking:
                answers = [await client.execute_command(*commands[0].arguments, **commands[0].options)]
            else:
                answers = await _in_one_go(client, commands, asking=asking)
        except OUTAGES as error:
            answers = [error] * len(commands)
        self.nodes.note(address, answered=not _unreachable(answers[0]))
        return answers

    async def _to_be_sent_again(
        self, commands: Sequence[Command], sent_to: Mapping[int, NodeAddress | None], answers: Sequence[Any]
    ) -> dict[int, _Redirect | None]:
        """Return what another round may help, after learning what there is to learn for it."""
        again: dict[int, _Redirect | None] = {}
        astray: list[int] = []
        for place, address in sent_to.items():
            answer = answers[place]
            if not isinstance(answer, Exception):
                continue
            if isinstance(answer, AskError) and address is not None:
                node = NodeAddress(answer.host or address.host, answer.port)
                again[place] = _Redirect(node, asking=not isinstance(answer, MovedError))
            elif isinstance(answer, TryAgainError):
                again[place] = None
            elif address is None or _unreachable(answer) or isinstance(answer, ReadOnlyError):
                astray.append(place)
        if any(isinstance(answers[place], TryAgainError) for place in again):
            await asyncio.sleep(_TRY_AGAIN_S)
        if astray or any(redirect and not redirect.asking for redirect in again.values()):
            try:
                topology = await self.nodes.look()
            except RedisError:
                return again
            again |= {
                place: None for place in astray if topology.owner(commands[place].slot) != sent_to[place]
            }
        return again


class ClusterBatch:
    """Script calls that are gathered and sent together, like a pipeline of `redis.asyncio.Redis`."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[Command] = []

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Self:
        """Gather one call."""
        self._commands.append(Command(("EVALSHA", sha, numkeys, *keys_and_args), {}))
        return self

    async def execute(self, raise_on_error: bool) -> list[Any]:
        """Send all; return the answers in order. `raise_on_error`: raise the first exception among them."""
        commands, self._commands = self._commands, []
        answers = await self._client.run(commands)
        if raise_on_error and (error := next((a for a in answers if isinstance(a, Exception)), None)):
            raise error
        return answers


async def _in_one_go(client: StoreClient, commands: Sequence[Command], *, asking: bool) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        if asking:
            pipe.execute_command("ASKING")
        pipe.execute_command(*command.arguments, **command.options)
    answers = list(await pipe.execute(raise_on_error=False))
    return answers[1::2] if asking else answers


def _unreachable(answer: object) -> bool:
    """Return whether a node did not answer at all: it may have been replaced."""
    return isinstance(answer, ConnectionLost | NoAnswer | OSError | TimeoutError) and not isinstance(
        answer, BusyLoadingError
    )
