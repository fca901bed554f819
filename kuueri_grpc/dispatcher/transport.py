"""Connections to targets, made by aiohttp and used by ourselves.

Why not aiohttp's own client, or httpx's: docs/adr/0003-http-sender.md.
"""

import asyncio
import ssl
from collections.abc import Callable

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import AsyncResolver

from kuueri_grpc.dispatcher.connector import KEEPALIVE_S, dialled_name, guarded_connector
from kuueri_grpc.dispatcher.exchange import ConnectionLost, Exchange
from kuueri_grpc.dispatcher.message import Answer, InvalidResponse, Request
from kuueri_grpc.dispatcher.proxy import EgressProxy
from kuueri_grpc.dispatcher.url import Origin, Target
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.ports import NotStarted

MAX_BODY_BYTES = 64 * 1_024
_NO_LIMIT = 1 << 30


class GuardedTransport:
    """Sends requests over pooled connections to addresses that the policy lets pass.

    It sends what the request holds and nothing else: no header, no cookie, no proxy from the
    environment, no second try. Redirects are not followed, bodies not decoded. There is no time limit;
    a cancelled call has closed its connection when it ends, and what was not sent yet is discarded.

    `failures.classify` knows what it raises.

    Args:
        policy: decides on every host that is asked for and every address that is dialled.
        resolver: resolves names; default: c-ares, which waits for slow name servers without a thread.
        proxy: what every connection goes through; default: none, also where the environment names one.
        ssl_context: default: the certificates of certifi, or of SSL_CERT_FILE and SSL_CERT_DIR.
        max_connections: open connections, from which on the one that is idle for longest is closed before
            another one is made.
        max_body_bytes: how much of an answer's body is read, as it comes over the wire. A longer one is
            cut off by closing the connection; the status code counts.

    Must be made in a running event loop.
    """

    def __init__(
        self,
        policy: TargetPolicy,
        *,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: EgressProxy | None = None,
        max_connections: int = _NO_LIMIT,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or AsyncResolver()
        self._connector = guarded_connector(
            policy, self._resolver, ssl_context or _default_ssl_context(), proxy
        )
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._loop = asyncio.get_running_loop()
        #: Connections that wait for a request, the one that was used last at the end.
        self._idle: dict[Origin, list[Exchange]] = {}
        self._origins: dict[Exchange, Origin] = {}
        self._connecting = 0
        self._closing_idle: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, request: Request, answer: Answer, may_send: Callable[[], bool]) -> None:
        """Send the request; return when its answer is complete, which is written to `answer` meanwhile.

        `may_send` is asked right before the request is written, see `ports.Dispatcher`.

        Raises:
            BlockedAddress: the policy refuses the target's host or its address.
            NotStarted: it may not be sent any more.
            ConnectionLost, InvalidResponse, aiohttp.ClientError, OSError: as `failures.classify` has them.
        """
        if self._closed:
            raise RuntimeError("the sender is closed")
        wire = request.wire()
        exchange = self._take(request.target.origin) or await self._connect(request.target)
        if not may_send():
            if exchange.is_usable():
                self._keep(exchange)
            raise NotStarted
        done = exchange.begin(wire, answer, bodiless=request.method == "HEAD")
        try:
            await done
        except BaseException:
            if exchange.is_busy_with(done):
                exchange.abort()
            await asyncio.sleep(0)  # aborted connections are closed in the next iteration of the event loop
            raise

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        self._closed = True
        if self._closing_idle is not None:
            self._closing_idle.cancel()
        for exchange in list(self._origins):
            exchange.abort()
        await self._connector.close()
        await self._resolver.close()

    def _take(self, origin: Origin) -> Exchange | None:
        """Return an open connection that nobody uses."""
        idle = self._idle.get(origin)
        while idle:
            exchange = idle.pop()
            if not idle:
                del self._idle[origin]
            if not exchange.is_usable():
                continue
            if self._loop.time() - exchange.idle_since < KEEPALIVE_S:
                return exchange
            exchange.close()
            self._origins.pop(exchange, None)
        return None

    async def _connect(self, target: Target) -> Exchange:
        self._policy.check_host(target.host)
        self._make_room()
        self._connecting += 1
        try:
            return await self._dial(target)
        finally:
            self._connecting -= 1

    async def _dial(self, target: Target) -> Exchange:
        dialled_name.set(target.host)
        url = yarl.URL.build(
            scheme=target.origin[0], authority=target.authority.decode("ascii"), encoded=True
        )
        try:
            connection = await self._connector.connect(
                aiohttp.ClientRequest("GET", url, loop=self._loop), [], aiohttp.ClientTimeout()
            )
        except BaseException:
            await asyncio.sleep(0)
            raise
        protocol = connection.protocol
        spoke_first = protocol is not None and protocol.should_close
        try:
            if spoke_first:
                raise InvalidResponse
            exchange = Exchange(connection, self._max_body_bytes, on_idle=self._keep, on_gone=self._forget)
        except (InvalidResponse, ConnectionLost):
            connection.close()
            raise
        self._origins[exchange] = target.origin
        return exchange

    def _make_room(self) -> None:
        """Close idle connections until there may be another one: each takes a file descriptor."""
        while self._idle and len(self._origins) + self._connecting >= self._max_connections:
            # Of the origin that has had idle ones for longest, the one that was used first.
            exchange = next(iter(self._idle.values()))[0]
            self._forget(exchange)
            exchange.close()

    def _keep(self, exchange: Exchange) -> None:
        """Keep a connection for the next request to its origin."""
        exchange.idle_since = self._loop.time()
        self._idle.setdefault(self._origins[exchange], []).append(exchange)
        if self._closing_idle is None:
            self._closing_idle = self._loop.call_later(KEEPALIVE_S, self._close_idle)

    def _forget(self, exchange: Exchange) -> None:
        origin = self._origins.pop(exchange, None)
        if origin is not None and exchange in (idle := self._idle.get(origin, [])):
            idle.remove(exchange)
            if not idle:
                del self._idle[origin]

    def _close_idle(self) -> None:
        """Close what has been idle for too long; look again while anything is idle."""
        self._closing_idle = None
        too_long = self._loop.time() - KEEPALIVE_S
        for origin, idle in list(self._idle.items()):
            keep = [exchange for exchange in idle if exchange.idle_since > too_long]
            for exchange in idle[: len(idle) - len(keep)]:  # they are in the order of their last use
                exchange.close()
                self._origins.pop(exchange, None)
            if keep:
                self._idle[origin] = keep
            else:
                del self._idle[origin]
        if self._idle:
            oldest = min(idle[0].idle_since for idle in self._idle.values())
            self._closing_idle = self._loop.call_at(oldest + KEEPALIVE_S, self._close_idle)


def _default_ssl_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
