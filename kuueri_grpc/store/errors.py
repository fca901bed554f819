"""What a client library's errors mean to us, in one place."""

import asyncio
from types import TracebackType

from redis.exceptions import RedisError

from kuueri_grpc.domain.errors import StoreUnavailable

#: How long a call to the store may take, waiting for a connection included.
CALL_TIMEOUT_S = 5.0


class outages_mapped:  # noqa: N801 - used as a statement: `async with outages_mapped():`
    """Turn every failure to get an answer from the store in time into `StoreUnavailable`.

    Whatever the store answers instead of serving (LOADING, READONLY, MISCONF, OOM, a lost connection,
    no answer within CALL_TIMEOUT_S) is an outage to the caller: it may pass, and the call can be repeated.

    The time is kept here because the client library's own socket time-out loses cancellations: before
    Python 3.12 the `asyncio.wait_for` around its sending does, and a loop that should end goes on.
    """

    __slots__ = ("_timeout",)

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(CALL_TIMEOUT_S)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise _outage(late) from late
        if isinstance(error, RedisError | OSError):  # of which TimeoutError is one
            raise _outage(error) from error


def _outage(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the store does not serve now ({type(error).__name__})")
