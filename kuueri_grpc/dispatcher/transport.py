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

from kuueri_grpc.dispatcher.connector import KEEPALIVE_S, Dial, current_dial, guarded_connector
from kuueri_grpc.dispatcher.exchange import ConnectionLost, Exchange
from kuueri_grpc.dispatcher.message import Answer, InvalidResponse, Request
from kuueri_grpc.dispatcher.proxy import EgressProxy
from kuueri_grpc.dispatcher.read_queue import ReadQueue
from kuueri_grpc.dispatcher.resolver import AliasResolver
from kuueri_grpc.dispatcher.shortage import LocalShortage, ShortageDetector, missing_now
from kuueri_grpc.dispatcher.url import Origin, Target
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.ports import NotStarted

MAX_ANSWER_BYTES = 64 * 1_048_576
_NO_LIMIT = 1 << 30
#: By how much an idle connection is closed before the target closes it, where the target says when.
_KEEPALIVE_MARGIN_S = 1.0
#: For how long the event loop, which has just read from it, is all that is asked about an idle connection.
_FRESH_S = 0.001
#: How often idle connections are looked through, in parts of their time.
_LOOKS = 8


class GuardedTransport:
    """Sends requests over pooled connections to addresses that the policy lets pass.

    It sends what the request holds and nothing else: no header, no cookie, no proxy from the
    environment. Redirects are not followed, bodies not decoded. There is no time limit; a cancelled call has
    closed its connection when it ends, and what was not sent yet is discarded.

    A request is sent once, but for one case: on a connection that was kept from an earlier request, and ends
    before anything of the answer has come, it is sent a second time, on a new one (RFC 9112, 9.3.1). Nearly
    always the target had closed it in the very moment, and read nothing.

    `failures.classify` knows what it raises.

    Args:
        policy: decides on every host that is asked for and every address that is dialled.
        resolver: resolves names; default: c-ares, which waits for slow name servers without a thread.
        proxy: what every connection goes through; default: none, also where the environment names one.
        ssl_context: default: the certificates of certifi, or of SSL_CERT_FILE and SSL_CERT_DIR.
        max_connections: open connections, from which on the one that is idle for longest is closed before
            another one is made.
        max_answer_bytes: how much of the body of a success answer is read, as it comes over the wire. With a
            longer one it is no success. Of other answers less is read, and the status code counts.

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
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._policy = policy
        self._resolver = resolver or AliasResolver()
        context = ssl_context or _default_ssl_context()
        # A certificate is for the names in its extension, and none else (RFC 9525, 6.3).
        context.hostname_checks_common_name = False
        self._connector = guarded_connector(policy, self._resolver, context, proxy)
        self._max_connections = max_connections
        self._max_answer_bytes = max_answer_bytes
        self._reads = ReadQueue()
        self._shortages = ShortageDetector()
        self._loop = asyncio.get_running_loop()
        #: Connections that wait for a request, the one that was used last at the end.
        self._idle: dict[Origin, list[Exchange]] = {}
        self._origins: dict[Exchange, Origin] = {}
        self._connecting = 0
        self._closing_idle: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, request: Request, answer: Answer, may_send: Callable[[], bool]) -> None:
        """Send the request; return when its answer is complete, which is written to `answer` meanwhile.

        `may_send` is asked right before the request is written, each time, see `ports.Dispatcher`.

        Raises:
            BlockedAddress: the policy refuses the target's host or its address.
            NotStarted: it may not be sent any more.
            LocalShortage: it was not sent, for the lack of a descriptor, a port or memory here.
            ConnectionLost, InvalidResponse, AnswerTooLong, aiohttp.ClientError, OSError: as
                `failures.classify` has them.
        """
        if self._closed:
            raise RuntimeError("the sender is closed")
        wire = request.wire()
        exchange = None if answer.sent_again else self._take(request.target.origin)
        is_kept = exchange is not None
        if exchange is None:
            exchange = await self._connect(request.target)
        while True:
            if not may_send():
                if exchange.is_usable():
                    self._keep(exchange)
                raise NotStarted
            done = exchange.begin(
                wire, answer, bodiless=request.method == "HEAD", keep=request.keeps_connection
            )
            try:
                return await done
            except ConnectionLost:
                if not is_kept or exchange.has_begun or self._closed:
                    raise
            except BaseException:
                if exchange.is_busy_with(done):
                    exchange.abort()
                # Aborted connections are closed in the next iteration of the event loop.
                await asyncio.sleep(0)
                raise
            answer.sent_again, is_kept = True, False
            exchange = await self._connect(request.target)

    def has_room(self, origin: Origin | None) -> bool:
        """Return whether a request may find a connection after a `LocalShortage`: a kept one, or a new one.

        `origin`: whose kept connections it may take; None: it takes a new one.
        Where it does not, an idle connection to another origin is closed for the sake of its descriptor.
        """
        if origin in self._idle or missing_now() is None:
            return True
        self._close_longest_idle()
        return False

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
            now = self._loop.time()
            if now < exchange.idle_until and (now < exchange.fresh_until or not exchange.has_ended()):
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
        dial = Dial(target.host)
        current_dial.set(dial)
        url = yarl.URL.build(
            scheme=target.origin[0], authority=target.authority.decode("ascii"), encoded=True
        )
        try:
            connection = await self._connector.connect(
                aiohttp.ClientRequest("GET", url, loop=self._loop), [], aiohttp.ClientTimeout()
            )
        except Exception as error:
            await asyncio.sleep(0)
            lack = dial.lack or self._shortages.lack_behind(error)
            if lack is None:
                raise
            raise LocalShortage(lack) from error
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise
        protocol = connection.protocol
        spoke_first = protocol is not None and protocol.should_close
        try:
            if spoke_first:
                raise InvalidResponse
            exchange = Exchange(
                connection, self._max_answer_bytes, self._reads, on_idle=self._keep, on_gone=self._forget
            )
        except (InvalidResponse, ConnectionLost):
            connection.close()
            raise
        self._origins[exchange] = target.origin
        return exchange

    def _make_room(self) -> None:
        """Close idle connections until there may be another one: each takes a file descriptor."""
        while self._idle and len(self._origins) + self._connecting >= self._max_connections:
            self._close_longest_idle()

    def _keep(self, exchange: Exchange) -> None:
        """Keep a connection for the next request to its origin."""
        keep_s = KEEPALIVE_S
        if exchange.keep_s is not None:
            # The target counts from when it sent the answer, and closes for certain then.
            keep_s = min(keep_s, max(exchange.keep_s - _KEEPALIVE_MARGIN_S, exchange.keep_s / 2))
        now = self._loop.time()
        exchange.fresh_until = now + _FRESH_S
        exchange.idle_until = now + keep_s
        self._idle.setdefault(self._origins[exchange], []).append(exchange)
        if self._closing_idle is None:
            self._closing_idle = self._loop.call_later(KEEPALIVE_S / _LOOKS, self._close_idle)

    def _forget(self, exchange: Exchange) -> None:
        origin = self._origins.pop(exchange, None)
        if origin is not None and exchange in (idle := self._idle.get(origin, [])):
            idle.remove(exchange)
            if not idle:
                del self._idle[origin]

    def _close_longest_idle(self) -> None:
        """Close the connection that was idle for longest."""
        if self._idle:
            exchange = min((idle[0] for idle in self._idle.values()), key=lambda one: one.idle_until)
            exchange.close()
            self._forget(exchange)

    def _close_idle(self) -> None:
        """Close what has been idle for too long; look again while anything is idle."""
        self._closing_idle = None
        now = self._loop.time()
        for idle in list(self._idle.values()):
            for exchange in [exchange for exchange in idle if exchange.idle_until <= now]:
                exchange.close()
                self._forget(exchange)
        if self._idle:
            self._closing_idle = self._loop.call_later(KEEPALIVE_S / _LOOKS, self._close_idle)


def _default_ssl_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
