"""The way in for calls, which closes before the server does."""

import asyncio
import time
from types import TracebackType

from kuueri_grpc.domain.errors import Draining

#: For how long no call must have come before the server is taken away.
_QUIET_S = 0.1
_LOOK_AGAIN_S = 0.01


class CallGate:
    """Lets calls in (`with gate:`) until it is closed, and knows when none is under way.

    gRPC ends with CANCELLED what has arrived and was not begun when a server shuts down: to the caller that
    is its own doing, and no reason to try elsewhere. So calls are refused with UNAVAILABLE first, until no
    more come.
    """

    def __init__(self) -> None:
        self._closed = False
        self._under_way = 0
        self._latest = 0.0

    def __enter__(self) -> None:
        """Begin a call, which ends with the block.

        Raises:
            Draining: the gate is closed.
        """
        self._latest = time.monotonic()
        if self._closed:
            raise Draining
        self._under_way += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._under_way -= 1

    async def close(self, patience_s: float) -> None:
        """Let no call in any more; return when none is under way and none comes, or patience has run out."""
        self._closed = True
        closed = time.monotonic()
        while (now := time.monotonic()) < closed + patience_s:
            if not self._under_way and now > max(closed, self._latest) + _QUIET_S:
                return
            await asyncio.sleep(_LOOK_AGAIN_S)
