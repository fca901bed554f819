"""Where addresses are checked: between a name and its addresses, and again at the socket.

The resolver's answers are checked before they are cached or dialled, and exactly those are dialled: a
name cannot show one address to the check and another to the connection. The second check is on what
the socket is about to connect to, so that it holds for literal addresses, which skip the resolver, and
for every hop of a redirect, whatever led there.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from aiohttp import AddrInfoType, ClientConnectorError, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from kuueri_grpc.dispatcher.proxy import EgressProxy, ProxyFailed, tunnel
from kuueri_grpc.dispatcher.resolver import GuardedResolver
from kuueri_grpc.dispatcher.shortage import LocalShortage, is_out_of_ports, lack_in
from kuueri_grpc.domain.target_policy import BlockedAddress, TargetPolicy

#: Idle connections are closed by us after this time. It must be less than the target's own limit, or a
#: request can meet a connection that is just being closed, and fail for no fault of the target: Node
#: closes after 5 s, as do Apache and uvicorn; most others wait longer.
KEEPALIVE_S = 4.0


@dataclass(slots=True)
class Dial:
    """A connection as it is made: the name that leads there, which decides too; what was lacking for it."""

    name: str
    lack: str | None = None


#: Each attempt is an asyncio task of its own, and those that try its addresses see the same object.
current_dial: ContextVar[Dial] = ContextVar("current_dial")


def guarded_connector(
    policy: TargetPolicy,
    resolver: AbstractResolver,
    ssl_context: ssl.SSLContext,
    proxy: EgressProxy | None = None,
) -> TCPConnector:
    """Return a connection pool that dials no address which the policy refuses.

    With a proxy it dials none at all: it has the proxy dial addresses that were checked here. The proxy's own
    address is the operator's choice, and not checked.

    It has no limit of its own: `OriginGate` limits per origin, the scheduler in all. Must be called in
    a running event loop.
    """

    def check(peer: tuple[object, ...]) -> None:
        policy.check_address(_numeric_host(peer), current_dial.get().name)

    def open_socket(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, peer = address
        check(peer)
        try:
            return socket.socket(family, kind, protocol)
        except OSError as error:
            # What the other addresses come to hides it.
            current_dial.get().lack = lack_in(error)
            raise

    common: dict[str, Any] = {
        "ssl": ssl_context,
        "resolver": GuardedResolver(policy, resolver),
        "keepalive_timeout": KEEPALIVE_S,
        "limit": 0,
    }
    if proxy is None:
        return _DirectConnector(socket_factory=open_socket, **common)
    return _TunnellingConnector(proxy, resolver, check, **common)


class _DirectConnector(TCPConnector):
    """A pool of connections of our own."""

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[AddrInfoType], **kwargs: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Connect to one of the addresses; the lack of a port for that is not the target's failure."""
        try:
            return await super()._wrap_create_connection(*args, addr_infos=addr_infos, **kwargs)
        except ClientConnectorError as error:
            family, *_, peer = addr_infos[0]
            if error.errno == errno.EADDRNOTAVAIL and is_out_of_ports(family, peer):
                raise LocalShortage("EADDRNOTAVAIL") from error
            raise


class _TunnellingConnector(TCPConnector):
    """A pool of connections that begin as tunnels through a proxy."""

    def __init__(
        self,
        proxy: EgressProxy,
        proxy_resolver: AbstractResolver,
        check: Callable[[tuple[object, ...]], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._egress_proxy = proxy
        self._proxy_resolver = proxy_resolver
        self._check = check

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[AddrInfoType],
        req: ClientRequest,
        timeout: ClientTimeout,  # noqa: ASYNC109  of the method that this is in the place of
        client_error: type[Exception] = ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """Connect to the first address to which there is a tunnel."""
        peers = [address[4] for address in addr_infos]
        # The caller comes again with those that are left here: none, all of them are tried now.
        addr_infos.clear()
        try:
            for peer in peers:
                self._check(peer)
            async with tunnel(self._egress_proxy, self._proxy_resolver, peers) as sock:
                # What follows, TLS with the target included, is as over a connection of our own.
                return await self._wrap_existing_connection(
                    *args, req=req, timeout=timeout, client_error=client_error, sock=sock, **kwargs
                )
        except (BlockedAddress, ProxyFailed) as error:
            raise client_error(req.connection_key, error) from error


def _numeric_host(peer: tuple[object, ...]) -> str:
    """Return the address of a socket address, with its scope (the fourth of IPv6) if it has one."""
    host = str(peer[0])
    scoped = len(peer) > 3 and peer[3] and "%" not in host
    return f"{host}%{peer[3]}" if scoped else host
