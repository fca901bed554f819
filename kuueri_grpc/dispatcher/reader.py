"""An answer as it comes in: parsed as far as it counts, its body read to the end and discarded."""

import re
from typing import Any

import httptools

from kuueri_grpc.dispatcher.message import Answer, InvalidResponse

#: Limit of an answer's head with the interim answers before it, and of what comes between two parts of its
#: body (a chunk's extensions) or after the last one (trailers).
_MAX_FRAMING_BYTES = 1 << 17
#: How much is read of the body of an answer that is no success: its status is the outcome; reading a short
#: body to its end keeps the connection.
MAX_ERROR_BODY_BYTES = 1 << 16
#: From here on an answer is a long one; its body is not parsed where its length is known.
_LONG_BYTES = 1 << 16

_FIRST_STATUS, _LAST_STATUS = 100, 599  # RFC 9110, 15
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL = 200
BODILESS = frozenset({204, 304, _SWITCHING_PROTOCOLS})

_READ_HEADERS = frozenset(
    {b"retry-after", b"location", b"content-length", b"transfer-encoding", b"keep-alive"}
    | {b"www-authenticate", b"proxy-authenticate"}
)
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?:^|[\s,])timeout\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)
_CONNECTION_SCHEMES = re.compile(rb"(?:^|[\s,])(?:ntlm|negotiate|kerberos)(?:$|[\s,])", re.IGNORECASE)


def authenticates_connection(value: bytes) -> bool:
    """Return whether credentials, or a challenge, are for a connection and not for a request.

    RFC 4559, section 6, and MS-NTHT: all that follows on the connection is then taken for the same user's.
    """
    return _CONNECTION_SCHEMES.search(value) is not None


class AnswerReader:
    """Reads one answer after the other. The methods named `on_...` are called by the parser.

    Args:
        max_body_bytes: how much of the body of a success answer is read; a longer one is `too_long`.
    """

    __slots__ = (
        "_announces_body",
        "_answer",
        "_bodiless",
        "_body_bytes",
        "_framing_bytes",
        "_head_bytes",
        "_in_body",
        "_keep",
        "_length",
        "_limit",
        "_max_body_bytes",
        "_over",
        "_parser",
        "_received_bytes",
        "_skip_bytes",
        "_to_the_end",
        "_too_long",
        "keep_s",
    )

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._parser: Any = None
        self._received_bytes = 0
        #: For how long the target keeps an idle connection, by its last answer; None: it did not say.
        self.keep_s: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything of the last answer has arrived."""
        return self._received_bytes > 0

    def expect(self, answer: Answer, *, bodiless: bool, keep: bool) -> None:
        """Prepare for the next answer, which goes to `answer`. See `Exchange.begin`."""
        if self._parser is None:
            self._parser = _parser(self)
        self._answer = answer
        self._bodiless = bodiless
        self._announces_body = False
        self._received_bytes = self._framing_bytes = self._head_bytes = self._body_bytes = 0
        self._skip_bytes = self._limit = 0
        self._length: int | None = None
        self._in_body = self._over = self._too_long = False
        self._keep = keep
        self._to_the_end = True
        self.keep_s = None

    def feed(self, data: bytes) -> bool:
        """Read on; return whether all of the answer that counts is there.

        Raises:
            InvalidResponse: it is no answer.
        """
        self._received_bytes += len(data)
        if self._skip_bytes:
            return self._skip(len(data))
        body_bytes = self._body_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep = False
        except httptools.HttpParserError as error:
            # What comes after the answer is not looked at.
            self._keep = False
            if not self._over:
                raise InvalidResponse from error
        if self._over:
            return True
        self._framing_bytes = 0 if self._body_bytes > body_bytes else self._framing_bytes + len(data)
        self._check_framing()
        if self._length is not None and self.is_long:
            self._skip_bytes = self._length - self._body_bytes
        return self._over

    @property
    def is_long(self) -> bool:
        """Whether more is read than what most answers have."""
        return self._in_body and self._received_bytes > _LONG_BYTES

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what is needed of a header; `on_headers_complete` was before the trailers, which are not."""
        if self._in_body:
            return
        self._head_bytes += len(name) + len(value)
        name = name.lower()
        if name in _READ_HEADERS:
            self._read_header(name, value)

    def _read_header(self, name: bytes, value: bytes) -> None:
        match name:
            case b"retry-after":
                self._answer.retry_after = _text(value)
            case b"location":
                self._answer.location = _text(value)
            case b"content-length":
                self._to_the_end = False
                self._length = int(value)
                self._announces_body = self._length > 0
            case b"transfer-encoding":
                self._announces_body = True
                self._to_the_end = not value.rstrip().lower().endswith(b"chunked")
            case b"keep-alive":
                if told := _KEEP_ALIVE_TIMEOUT.search(value):
                    self.keep_s = int(told[1])
            case b"www-authenticate" | b"proxy-authenticate":
                self._keep = self._keep and not authenticates_connection(value)

    def on_headers_complete(self) -> None:
        """The status is known.

        Raises:
            InvalidResponse: there is no such status.
        """
        if self._over:
            return  # of a second answer, which nobody asked for
        status = self._parser.get_status_code()
        if not _FIRST_STATUS <= status <= _LAST_STATUS:
            raise InvalidResponse
        if status < _FIRST_FINAL and status != _SWITCHING_PROTOCOLS:
            # An interim answer. What its headers say is not of the one that follows.
            self._answer.retry_after = self._answer.location = None
            self._to_the_end, self._announces_body, self._length = True, False, None
            return
        if self._head_bytes > _MAX_FRAMING_BYTES:
            raise InvalidResponse
        self._in_body = True
        self._answer.status_code = status
        if self._bodiless or status in BODILESS:
            self._over = True
            # A target may send the body nevertheless. It is not to be taken for the answer to what is asked
            # next, which may be another project's.
            self._keep = (
                self._keep
                and self._parser.should_keep_alive()
                and not self._announces_body
                and status != _SWITCHING_PROTOCOLS
            )
            return
        self._limit = self._max_body_bytes
        if not self._answer.succeeded:
            self._limit = min(self._limit, MAX_ERROR_BODY_BYTES)
        if self._length is not None and self._length > self._limit:
            self._cut_off()

    def on_body(self, data: bytes) -> None:
        """Count it."""
        self._body_bytes += len(data)
        if self._over:
            self._keep = False
        elif self._body_bytes > self._limit:
            self._cut_off()

    def on_message_begin(self) -> None:
        """Nobody asked for a second answer."""
        if self._in_body:
            self._keep = False

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self._in_body and not self._over:
            self._over = True
            self._keep = self._keep and self._parser.should_keep_alive()

    def _cut_off(self) -> None:
        self._over = self._too_long = True
        self._keep = False

    def _skip(self, size: int) -> bool:
        self._skip_bytes -= size
        if self._skip_bytes > 0:
            return False
        self._keep = self._keep and self._skip_bytes == 0 and self._parser.should_keep_alive()
        self._skip_bytes = 0
        self._parser = None  # it waits for the body
        self._over = True
        return True

    def _check_framing(self) -> None:
        """Bound all that is not body: in one place, and as much again as the body may be in all.

        Raises:
            InvalidResponse: it is more.
        """
        if self._framing_bytes > _MAX_FRAMING_BYTES and not (self._in_body and not self._answer.succeeded):
            raise InvalidResponse
        in_all = self._received_bytes - self._body_bytes
        if self._framing_bytes > _MAX_FRAMING_BYTES or in_all > _MAX_FRAMING_BYTES + self._limit:
            self._cut_off()


def _parser(reader: AnswerReader) -> Any:
    parser = httptools.HttpResponseParser(reader)
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
