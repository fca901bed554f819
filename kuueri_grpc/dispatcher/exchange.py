"""One connection to a target: a request goes out, its answer is read as it comes in, and again.

On asyncio's transports and llhttp's parser, without streams, queues or a task of its own: an exchange costs
one write, one future, and a call for each packet that arrives.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import httptools
from aiohttp.connector import Connection

from kuueri_grpc.dispatcher.message import Answer, InvalidResponse

#: All of an answer but its body: its head, interim answers before it, what frames its chunks, its trailers.
#: More is no answer that anybody meant.
_MAX_FRAMING_BYTES = 1 << 17
_DISCARD_UNSENT = struct.pack("ii", 1, 0)  # struct linger: on, 0 s

_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL = 200
_BODILESS = frozenset({204, 304, _SWITCHING_PROTOCOLS})


class ConnectionLost(Exception):
    """The connection broke after the request was, or may have been, sent."""


class Exchange(asyncio.Protocol):
    """A connection and what is under way on it.

    The methods named `on_...` and `..._received` are called by the parser and by the event loop.

    Args:
        connection: an open connection; it is closed with this.
        max_body_bytes: how much of a body is read. A longer one is cut off by closing the connection.
        on_idle: called with this when an answer is complete and another request may be sent.
        on_gone: called with this when none may be sent any more; perhaps more than once.
    """

    __slots__ = (
        "_announces_body",
        "_answer",
        "_bodiless",
        "_body_bytes",
        "_connection",
        "_done",
        "_former",
        "_framing_bytes",
        "_head_bytes",
        "_in_body",
        "_keep",
        "_max_body_bytes",
        "_on_gone",
        "_on_idle",
        "_over",
        "_parser",
        "_to_the_end",
        "_transport",
        "idle_since",
    )

    def __init__(
        self,
        connection: Connection,
        max_body_bytes: int,
        *,
        on_idle: "Callable[[Exchange], None]",
        on_gone: "Callable[[Exchange], None]",
    ) -> None:
        transport = connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionLost
        self._connection = connection
        #: What aiohttp had on the connection: its pool waits to hear of the end from it.
        self._former = connection.protocol
        self._transport: asyncio.Transport = transport
        self._max_body_bytes = max_body_bytes
        self._on_idle = on_idle
        self._on_gone = on_gone
        self._parser: Any = None
        self._done: asyncio.Future[None] | None = None
        self._answer = Answer()
        self.idle_since = 0.0
        transport.set_protocol(self)

    def begin(self, request: bytes, answer: Answer, *, bodiless: bool) -> asyncio.Future[None]:
        """Send a request; return what is done when its answer is complete, which goes to `answer` meanwhile.

        It fails with `ConnectionLost` or `InvalidResponse`. `bodiless`: the answer has no body (HEAD).
        """
        if self._parser is None:
            self._parser = _parser(self)
        self._answer = answer
        self._bodiless = bodiless
        self._announces_body = False
        self._framing_bytes = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._in_body = False
        self._over = False
        self._keep = True
        self._to_the_end = True
        self._done = done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return done

    def is_busy_with(self, done: asyncio.Future[None]) -> bool:
        """Return whether the answer that `done` stands for is not complete."""
        return self._done is done

    def is_usable(self) -> bool:
        """Return whether another request can be sent."""
        return self._done is None and not self._transport.is_closing()

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
        # Less what of it is found to be body, below.
        self._framing_bytes += len(data) + self._body_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep = False
        except httptools.HttpParserError as error:
            # What comes after the answer is not looked at.
            self._keep = False
            if not self._over:
                invalid = InvalidResponse()
                invalid.__cause__ = error
                self._fail(invalid)
                self.abort()
                return
        self._framing_bytes -= self._body_bytes
        if self._framing_bytes > _MAX_FRAMING_BYTES:
            self._keep = False
            if not self._in_body or self._head_bytes > _MAX_FRAMING_BYTES:
                self._answer.forget()
                self._fail(InvalidResponse())
                self.abort()
                return
            self._over = True  # cut off, as a body that is too long
        if self._over:
            self._finish()

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

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what is needed of a header; `on_headers_complete` was before the trailers, which are not."""
        if self._in_body:
            return
        self._head_bytes += len(name) + len(value)
        match name.lower():
            case b"retry-after":
                self._answer.retry_after = _text(value)
            case b"location":
                self._answer.location = _text(value)
            case b"content-length":
                self._to_the_end = False
                self._announces_body = value.strip() != b"0"
            case b"transfer-encoding":
                self._announces_body = True
                self._to_the_end = not value.rstrip().lower().endswith(b"chunked")

    def on_headers_complete(self) -> None:
        """The status is known."""
        if self._over:
            return  # of a second answer, which nobody asked for
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL and status != _SWITCHING_PROTOCOLS:
            # An interim answer. What its headers say is not of the one that follows.
            self._answer.retry_after = self._answer.location = None
            self._to_the_end, self._announces_body = True, False
            return
        self._in_body = True
        self._answer.status_code = status
        if self._bodiless or status in _BODILESS:
            self._over = True
            # A target may send the body nevertheless. It is not to be taken for the answer to what is asked
            # next, which may be another project's.
            self._keep = (
                self._parser.should_keep_alive()
                and not self._announces_body
                and status != _SWITCHING_PROTOCOLS
            )

    def on_body(self, data: bytes) -> None:
        """Count it."""
        self._body_bytes += len(data)
        if self._over or self._body_bytes > self._max_body_bytes:
            self._over = True
            self._keep = False

    def on_message_begin(self) -> None:
        """Nobody asked for a second answer."""
        if self._in_body:
            self._keep = False

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self._in_body and not self._over:
            self._over = True
            self._keep = self._keep and self._parser.should_keep_alive()

    def _finish(self) -> None:
        done, self._done = self._done, None
        all_was_sent = self._transport.get_write_buffer_size() == 0
        if self._bodiless or self._answer.status_code in _BODILESS:
            self._parser = None  # it may wait for the body that its length tells of
        if self._keep and all_was_sent and not self._transport.is_closing():
            self._on_idle(self)
        else:
            if all_was_sent and self._body_bytes <= self._max_body_bytes:
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


def _parser(exchange: Exchange) -> Any:
    parser = httptools.HttpResponseParser(exchange)
    # What many servers get wrong, and harms nobody: one answer is read, and its end is not in doubt.
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
