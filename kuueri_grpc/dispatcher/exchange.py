"""One connection to a target: a request goes out, its answer is read as it comes in, and again.

On asyncio's transports and llhttp's parser, without streams, queues or a task of its own: an exchange costs
one write, one future, and a call for each packet that arrives.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiohttp.connector import Connection

from kuueri_grpc.dispatcher.message import Answer, InvalidResponse
from kuueri_grpc.dispatcher.read_queue import ReadQueue
from kuueri_grpc.dispatcher.reader import BODILESS, AnswerReader

_DISCARD_UNSENT = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
_READABLE_OR_CLOSED = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class ConnectionLost(Exception):
    """The connection broke after the request was, or may have been, sent."""


class AnswerTooLong(Exception):
    """A success answer has a longer body than is read. `detail` says so, fit for a tenant's eyes."""

    def __init__(self, limit: int) -> None:
        self.detail = f"closed here: the answer has more than {limit:,} bytes"
        super().__init__(self.detail)


class Exchange(AnswerReader, asyncio.Protocol):
    """A connection and what is under way on it.

    The methods named `..._received` are called by the event loop.

    Args:
        connection: an open connection; it is closed with this.
        max_body_bytes: see `AnswerReader`. The connection is closed where a body is longer.
        reads: where it waits for its turn to read a long answer.
        on_idle: called with this when an answer is complete and another request may be sent.
        on_gone: called with this when none may be sent any more; perhaps more than once.
    """

    __slots__ = (
        "_connection",
        "_done",
        "_former",
        "_on_gone",
        "_on_idle",
        "_poll",
        "_reads",
        "_transport",
        "fresh_until",
        "idle_until",
    )

    def __init__(
        self,
        connection: Connection,
        max_body_bytes: int,
        reads: ReadQueue,
        *,
        on_idle: "Callable[[Exchange], None]",
        on_gone: "Callable[[Exchange], None]",
    ) -> None:
        super().__init__(max_body_bytes)
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionLost
        self._connection = connection
        #: What aiohttp had on the connection: its pool waits to hear of the end from it.
        self._former = connection.protocol
        self._transport: asyncio.Transport = transport
        self._reads = reads
        self._on_idle = on_idle
        self._on_gone = on_gone
        self._poll: select.poll | None = None
        self._done: asyncio.Future[None] | None = None
        #: Of an idle connection, on the event loop's clock, kept by the owner: until when it was just used,
        #: and when it is closed.
        self.fresh_until = self.idle_until = 0.0
        transport.set_protocol(self)

    def begin(
        self, request: bytes, answer: Answer, *, bodiless: bool, keep: bool = True
    ) -> asyncio.Future[None]:
        """Send a request; return what is done when its answer is complete, which goes to `answer` meanwhile.

        It fails with `ConnectionLost`, `InvalidResponse` or `AnswerTooLong`. `bodiless`: the answer has no
        body (HEAD). `keep`: whether another request may follow on the connection.
        """
        self.expect(answer, bodiless=bodiless, keep=keep)
        self._done = done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return done

    def is_busy_with(self, done: asyncio.Future[None]) -> bool:
        """Return whether the answer that `done` stands for is not complete."""
        return self._done is done

    def is_usable(self) -> bool:
        """Return whether another request can be sent."""
        return self._done is None and not self._transport.is_closing()

    def has_ended(self) -> bool:
        """Return whether the target has closed the connection while it was idle, by what the kernel knows.

        The event loop may not have come to that yet. Also True where there is anything to read: nothing was
        asked.
        """
        if self._poll is None:
            raw: Any = self._transport.get_extra_info("socket")
            self._poll = select.poll()
            self._poll.register(raw.fileno(), _READABLE_OR_CLOSED)
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Close the connection in good order: what was written is sent."""
        self._transport.close()
        self._connection.close()
        self._parser = None

    def abort(self) -> None:
        """Close the connection at once and discard what was not sent; an exchange under way is lost.

        The event loop closes the socket in its next iteration. Closing in good order would first send all
        that is still buffered: after a cancelled attempt the target would get the rest of the request.
        """
        raw: Any = self._transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD_UNSENT)
        self._transport.abort()
        self._connection.close()
        self._parser = None
        self._fail(ConnectionLost())

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._done is None:
            self.abort()  # nothing was asked
            return
        try:
            is_over = self.feed(data)
        except InvalidResponse as error:
            self._fail(error)
            self.abort()
            return
        if is_over:
            self._finish()
        elif self.is_long:
            self._reads.wait_turn(self._transport)

    def eof_received(self) -> None:
        """The target says no more: an answer without a length is complete with that."""
        self._ended(None)
        if not self._transport.is_closing():
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._ended(error)
        self._connection.close()
        self._parser = None
        if self._former is not None:
            self._former.connection_lost(error)
            self._former = None

    def _finish(self) -> None:
        if self._too_long and self._answer.succeeded:
            self._fail(AnswerTooLong(self._limit))
            self.abort()
            return
        done, self._done = self._done, None
        all_was_sent = self._transport.get_write_buffer_size() == 0
        self._answer.is_whole = True
        self._answer.cut_off_at = self._limit if self._too_long else 0
        if self._bodiless or self._answer.status_code in BODILESS:
            self._parser = None  # it may wait for the body that its length tells of
        if self._keep and all_was_sent and not self._transport.is_closing():
            self._on_idle(self)
        else:
            if all_was_sent and not self._too_long:
                self.close()
            else:
                self.abort()
            self._on_gone(self)
        if done is not None and not done.done():
            done.set_result(None)

    def _ended(self, error: Exception | None) -> None:
        if self._done is None:
            self._on_gone(self)
        elif self._in_body and self._to_the_end and error is None:
            self._keep = False
            self._finish()
        else:
            lost = ConnectionLost()
            lost.__cause__ = error
            self._fail(lost)

    def _fail(self, error: Exception) -> None:
        done, self._done = self._done, None
        self._on_gone(self)
        if done is not None and not done.done():
            done.set_exception(error)
