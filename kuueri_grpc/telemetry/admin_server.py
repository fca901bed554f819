"""An HTTP server for few clients, of whom none can take it from the others, nor fill the log.

A connection has one request, and 10 s for all of it. There are 24 at a time: one more ends the one that was
opened first, as all that are in order last for milliseconds.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_MOST_CONNECTIONS = 24
_LONGEST_S = 10.0
_LOG_AGAIN_S = 60.0


class BoundedServer(web.Server):
    """The server. `answer`: makes the response to a request, of which no more than the head is wanted."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(answer, access_log=None, logger=_logger(), lingering_time=0)
        self._ends: dict[Any, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        """See the base class."""
        super().connection_made(handler, transport)
        if len(self._ends) >= _MOST_CONNECTIONS:
            first, _ = next(iter(self._ends.values()))
            first.abort()
        end = asyncio.get_running_loop().call_later(_LONGEST_S, transport.abort)
        self._ends[handler] = (transport, end)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """See the base class."""
        super().connection_lost(handler, exc)
        if handler in self._ends:
            _, end = self._ends.pop(handler)
            end.cancel()


class _FewLines(logging.Filter):
    """Passes one line a minute; what is wrong with a request is not worth a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._pass_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._pass_at:
            return False
        self._pass_at = now + _LOG_AGAIN_S
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg, record.args = "the admin endpoint was sent something that is no HTTP request", ()
            record.exc_info = None
            record.__dict__.update({"event": "admin_request_broken"})
        return True


def _logger() -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.requests")
    if not logger.filters:
        logger.addFilter(_FewLines())
    return logger
