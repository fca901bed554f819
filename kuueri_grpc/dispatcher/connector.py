"""Where addresses are checked: between a name and its addresses, and again at the socket.

The resolver's answers are checked before they are cached or dialled, and exactly those are dialled: a
name cannot show one address to the check and another to the connection. The second check is on what
the socket is about to connect to, so that it holds for literal addresses, which skip the resolver, and
for every hop of a redirect, whatever led there.
"""

import socket
import ssl
from contextvars import ContextVar

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

from kuueri_grpc.domain.target_policy import TargetPolicy

#: Idle connections are closed by us after this time. It must be less than the target's own limit, or a
#: request can meet a connection that is just being closed, and fail for no fault of the target: Node
#: closes after 5 s, as do Apache and uvicorn; most others wait longer.
KEEPALIVE_S = 4.0

#: The name that led to what is dialled: it decides too. Each attempt is an asyncio task of its own.
dialled_name: ContextVar[str] = ContextVar("dialled_name", default="")

_AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class GuardedResolver(AbstractResolver):
    """Resolves names through another resolver and refuses those with any address that the policy refuses."""

    def __init__(self, policy: TargetPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            BlockedAddress: one of them is refused. A name with a public and a private address is no
                better than the private one alone.
            OSError: the name does not resolve.
        """
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._policy.check_address(result["host"], host)
        return results

    async def close(self) -> None:
        """Close the resolver behind it."""
        await self._resolver.close()


def guarded_connector(
    policy: TargetPolicy, resolver: AbstractResolver, ssl_context: ssl.SSLContext
) -> TCPConnector:
    """Return a connection pool that dials no address which the policy refuses.

    It has no limit of its own: `OriginGate` limits per origin, the scheduler in all. Must be called in
    a running event loop.
    """

    def open_socket(address: _AddrInfo) -> socket.socket:
        family, kind, protocol, _, peer = address
        policy.check_address(_numeric_host(peer), dialled_name.get())
        return socket.socket(family, kind, protocol)

    return TCPConnector(
        ssl=ssl_context,
        resolver=GuardedResolver(policy, resolver),
        socket_factory=open_socket,
        keepalive_timeout=KEEPALIVE_S,
        limit=0,
    )


def _numeric_host(peer: tuple[object, ...]) -> str:
    """Return the address of a socket address, with its scope (the fourth of IPv6) if it has one."""
    host = str(peer[0])
    scoped = len(peer) > 3 and peer[3] and "%" not in host
    return f"{host}%{peer[3]}" if scoped else host
