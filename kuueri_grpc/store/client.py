"""The client of the store: how long a command may take, what is repeated, and when it is not even tried.

    answer lost, connection refused or reset   repeated twice within about 300 ms, on a new connection
    READONLY                                   the same: the name may lead to the new primary by now
    no answer in time (frozen, overloaded)     not repeated; the caller is told
    all connections in use                     waits for one, within the time of the command
    unfit for use                              refused at once, without asking the store

A command that is repeated may have been executed before: every script gives the same answer again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store.commands import Commands

#: Commands in flight to the store per process; more wait their turn.
CONNECTIONS = 64
_REPEATS = 2
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.1
_REPEATED: tuple[type[RedisError], ...] = (RedisConnectionError, ReadOnlyError)


def quick_retry() -> Retry:
    """Return the policy for commands. A restart of the store takes longer: callers wait for that."""
    return Retry(EqualJitterBackoff(cap=_LONGEST_WAIT_S, base=_FIRST_WAIT_S), _REPEATS, _REPEATED)


class StoreClient(Redis, Commands):  # type: ignore[misc] # the library's own classes disagree
    """`redis.asyncio.Redis`, bounded in time and in connections.

    Args:
        connection_pool: the client's own; closed with it. Its connections need no time-out: on Python 3.11
            the library's own can swallow the cancellation of a task.
        timeout_ms: for each command, or pipeline, as a whole.
    """

    one_server = True

    def __init__(self, connection_pool: ConnectionPool, timeout_ms: int) -> None:
        super().__init__(connection_pool=connection_pool)
        self.auto_close_connection_pool = True
        self._timeout_s = timeout_ms / 1_000
        # Waiting for one of these can be cancelled at any time; waiting in the library's blocking pool
        # can lose a connection for good.
        self._slots = asyncio.Semaphore(connection_pool.max_connections)
        self._refusal: str | None = None

    def refuse(self, reason: str | None) -> None:
        """Answer every command with `StoreUnavailable(reason)` from now on; None: ask the store again."""
        self._refusal = reason

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Hold a connection's slot, within the time of one command. Raises `StoreUnavailable`."""
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                yield
        except ReadOnlyError:
            await self.leave_replica()
            raise

    async def leave_replica(self) -> None:
        """Close what leads to a server that was demoted: the next connections ask for its address again."""
        await self.connection_pool.disconnect(inuse_connections=False)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its answer."""
        async with self.bounded():
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline; the time is for all its commands together."""
        return _BoundedPipeline(self, transaction=transaction, shard_hint=shard_hint)


class _BoundedPipeline(Pipeline):
    def __init__(self, client: StoreClient, *, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        async with self._client.bounded():
            answers = await super().execute(raise_on_error)
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            await self._client.leave_replica()
        return answers
