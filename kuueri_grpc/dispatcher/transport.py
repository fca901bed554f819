"""An httpx transport on an aiohttp session: `httpx.Request` in, `httpx.Response` out.

Why not httpx's own transport or the library that bridges the two: docs/adr/0003-http-sender.md.
"""

import asyncio
import io
import socket
import ssl
import struct
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aiohttp.resolver import AsyncResolver
from multidict import CIMultiDict

from kuueri_grpc.dispatcher.connector import dialled_name, guarded_connector
from kuueri_grpc.dispatcher.proxy import EgressProxy
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.ports import NotStarted

#: aiohttp writes bytes in one piece up to this length; beyond it a file is read and written in pieces.
_ONE_PIECE_BYTES = 1 << 20
#: Lines of an answer's head. aiohttp's 8,190 bytes are fewer than some targets send in one header.
_MAX_HEAD_LINE_BYTES = 1 << 16

_DISCARD_UNSENT = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


def _always() -> bool:
    return True


#: Asked right before a request is written, see `ports.Dispatcher`. Each attempt is a task of its own.
_may_send: ContextVar[Callable[[], bool]] = ContextVar("may_send", default=_always)


class ConnectionLost(aiohttp.ClientError):
    """The connection broke after the request was, or may have been, sent."""


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests over pooled connections to addresses that the policy lets pass.

    It sends what the request holds and nothing else: no header, no cookie, no proxy from the
    environment, no second try. Redirects are not followed, bodies not decoded. There is no time limit;
    a cancelled call has closed its connection when it ends, and what was not sent yet is discarded.

    Exceptions are aiohttp's and `BlockedAddress`; `failures.classify` knows them.

    Args:
        policy: decides on every host that is asked for and every address that is dialled.
        resolver: resolves names; default: c-ares, which waits for slow name servers without a thread.
        proxy: what every connection goes through; default: none, also where the environment names one.
        ssl_context: default: the certificates of certifi, or of SSL_CERT_FILE and SSL_CERT_DIR.

    Must be made in a running event loop.
    """

    def __init__(
        self,
        policy: TargetPolicy,
        *,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: EgressProxy | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or AsyncResolver()
        self._session = aiohttp.ClientSession(
            connector=guarded_connector(policy, self._resolver, ssl_context or _default_ssl_context(), proxy),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_PlainRequest,
            response_class=_AbortableResponse,
            middlewares=(_send_once,),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_MAX_HEAD_LINE_BYTES,
            max_field_size=_MAX_HEAD_LINE_BYTES,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; return the answer when its head is there. The caller closes it.

        Raises:
            BlockedAddress: the policy refuses the target's host or its address.
            aiohttp.ClientError, OSError: as `failures.classify` has them.
        """
        host = request.url.raw_host.decode("ascii")
        self._policy.check_host(host)
        dialled_name.set(host)
        _may_send.set(request.extensions.get("may_send", _always))
        body = await _read(request.stream)
        try:
            response = await self._session.request(
                request.method,
                yarl.URL(str(request.url), encoded=True),
                headers=CIMultiDict([(name.decode(), value.decode()) for name, value in request.headers.raw]),
                data=_payload(body),
                allow_redirects=False,
            )
        except BaseException:
            await _let_connections_close()
            raise
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_Body(response), request=request
        )

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        await self._session.close()
        await self._resolver.close()


class _Body(httpx.AsyncByteStream):
    """The body of an answer as it comes in. Closing it before its end closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    # An iterator and no generator: one that is not exhausted leaves nothing behind to be finalised.
    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._response.content.readany()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        response = self._response
        # It has its connection until the answer is complete, and then until the request is.
        if response.connection is not None:
            response.close()
            await _let_connections_close()


class _PlainRequest(aiohttp.ClientRequest):
    """A request without headers of aiohttp's own, so also without a wish for a compressed answer."""

    DEFAULT_HEADERS = {}  # noqa: RUF012 - the base class declares it so
    GET_METHODS = aiohttp.ClientRequest.ALL_METHODS  # those that get no "content-length: 0"

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request to a connection, if it still may be sent."""
        if not _may_send.get()():
            raise NotStarted
        return await super().send(conn)


class _AbortableResponse(aiohttp.ClientResponse):
    """An answer whose `close` drops the connection at once, unless it was given back to the pool.

    aiohttp's own closes it in good order, which first sends all that is still buffered: after a
    cancelled attempt the target would get the rest of the request.
    """

    def close(self) -> None:
        connection = self.connection
        if connection is not None and connection.transport is not None:
            _abort(connection.transport)
        super().close()


def _abort(transport: asyncio.Transport) -> None:
    raw: Any = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD_UNSENT)
    transport.abort()


async def _let_connections_close() -> None:
    """Return when aborted connections are closed: the event loop does it in its next iteration."""
    await asyncio.sleep(0)


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself.

    It does so for idempotent methods when the connection breaks. But one attempt is one delivery: a
    second one is the retry policy's to decide, and has an entry on the timeline.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent, and aiohttp does not repeat it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionLost from error


async def _read(stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> bytes:
    if isinstance(stream, httpx.SyncByteStream):  # bytes in memory, as `build_request` gives them, are both
        return b"".join(stream)
    return b"".join([part async for part in stream])


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    if not body:
        return None
    return body if len(body) <= _ONE_PIECE_BYTES else io.BytesIO(body)


def _default_ssl_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
