"""The way in for calls, which closes before the server does."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from kuueri_grpc.domain.errors import Draining

#: How long the answer of a call may take to be sent once the call has ended.
_SENT_S = 0.1
#: For how long no call must have come before gRPC's server is taken away.
_SILENCE_S = 0.1
_LOOK_AGAIN_S = 0.01


class CallGate:
    """Lets calls in (`with gate:`) until it is closed, and knows when none is under way."""

    def __init__(self) -> None:
        self._closed = False
        self._under_way = 0
        # Times are taken only once it is closed: before that nobody asks, and calls are many.
        self._last_came = 0.0
        self._last_ended = 0.0

    def __enter__(self) -> None:
        """Begin a call, which ends with the block.

        Raises:
            Draining: the gate is closed.
        """
        if self._closed:
            self._last_came = time.monotonic()
            raise Draining
        self._under_way += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._under_way -= 1
        if self._closed:
            self._last_ended = time.monotonic()

    async def close(self, patience_s: float) -> None:
        """Let no call in any more; return when all are answered, or patience has run out."""
        if not self._closed:
            self._closed = True
            self._last_came = self._last_ended = time.monotonic()
        await self._until(lambda now: not self._under_way and now > self._last_ended + _SENT_S, patience_s)

    async def silence(self, patience_s: float) -> None:
        """Return when no call has come for a while since it was closed, or patience has run out."""
        await self._until(lambda now: now > self._last_came + _SILENCE_S, patience_s)

    async def _until(self, so: Callable[[float], bool], patience_s: float) -> None:
        # What is waited for is that time passes without something.
        patience_until = time.monotonic() + patience_s
        while (now := time.monotonic()) < patience_until:
            if so(now):
                return
            await asyncio.sleep(_LOOK_AGAIN_S)
