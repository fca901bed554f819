"""Signals on a cluster: heard through any one node, as each message goes to all of them."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Protocol, Self

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.errors import OUTAGES


class SignalClient(Protocol):
    """What `RedisSignalBus` needs: `redis.asyncio.Redis` to one server, `ClusterSignals` to a cluster."""

    async def __aenter__(self) -> Self:
        """Connect to nothing yet."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        ...

    def pubsub(self) -> AbstractAsyncContextManager[PubSub]:
        """Return a place to listen, connected when something is first subscribed to."""
        ...

    def publish(self, channel: str, message: str) -> Awaitable[object]:
        """Send a message to all who listen. Raises `RedisError`."""
        ...


class ClusterSignals:
    """`SignalClient` on a cluster.

    Args:
        client: for commands; it knows the nodes, and is closed with this.
        connect: makes the client to listen with, to the node with that URL.
    """

    def __init__(self, client: ClusterClient, connect: Callable[[str], Redis]) -> None:
        self._client = client
        self._connect = connect

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def pubsub(self) -> AsyncIterator[PubSub]:
        """Open a connection to a node that answers, another one for each process and each time.

        Raises:
            RedisError: no node answers. Errors of the node come out of what is given.
        """
        # Asked anew: the last one may have been left because it is no longer there.
        address = random.choice(sorted((await self._client.nodes.look()).primaries))  # noqa: S311 - not a secret
        async with self._connect(self._client.nodes.url(address)) as node, node.pubsub() as pubsub:
            try:
                yield pubsub
            except OUTAGES:
                self._client.nodes.note(address, answered=False)
                raise

    async def publish(self, channel: str, message: str) -> None:
        """Send a message to all who listen, on any node. Raises `RedisError`."""
        await self._client.publish(channel, message)
