"""Long answers are read in turns, so that targets which flood do not delay attempts to others."""

import asyncio
from collections import deque

#: What an SSL transport may hold that was not read from it yet.
_TLS_BUFFER_BYTES = 1 << 16


class ReadQueue:
    """Connections that wait for their turn to read: one goes on in each iteration of the event loop.

    All that a connection receives at once is one piece, of 64 KiB to 256 KiB. However many connections are
    flooded, an iteration reads about one piece of all of them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Transport] = deque()

    def __len__(self) -> int:
        """Return how many connections wait."""
        return len(self._waiting)

    def wait_turn(self, transport: asyncio.Transport) -> None:
        """Read no more from a connection until its turn."""
        if transport.is_closing():
            return
        set_limits = getattr(transport, "set_read_buffer_limits", None)
        if set_limits is not None:  # TLS: what is received meanwhile is in this process
            set_limits(high=_TLS_BUFFER_BYTES)
        transport.pause_reading()
        if not self._waiting:
            self._loop.call_soon(self._next)
        self._waiting.append(transport)

    def _next(self) -> None:
        transport = self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._next)
        if not transport.is_closing():
            transport.resume_reading()
