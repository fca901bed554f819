"""The way out of a network that only a proxy leaves: a tunnel (HTTP CONNECT) to an address that was checked.

The proxy is told addresses, never names. Were names resolved there, they would be resolved again, after the
check, and could lead elsewhere: into the proxy's own network.
"""

import asyncio
import base64
import errno
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from aiohttp.abc import AbstractResolver

from kuueri_grpc.dispatcher.shortage import LocalShortage, is_out_of_ports

#: What a proxy may say before the tunnel stands.
_MAX_HEAD_BYTES = 16_384


class ProxyFailed(OSError):
    """The proxy gives no tunnel. `detail` says why: fit for a tenant's eyes, and without its address."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"egress proxy: {detail}")
        self.detail = f"egress proxy: {detail}"


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """Where the proxy is, and how it knows us. `authorization` is the value of Proxy-Authorization."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the proxy at `http://[user:password@]host:port`."""
        parts = urlsplit(url)
        authorization = ""
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
        return cls(parts.hostname or "", parts.port or 80, authorization)

    def request(self, address: str, port: object) -> bytes:
        """Return the request for a tunnel to a numeric address."""
        authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


@asynccontextmanager
async def tunnel(
    proxy: EgressProxy, resolver: AbstractResolver, peers: Iterable[tuple[object, ...]]
) -> AsyncIterator[socket.socket]:
    """Yield a connected socket to the first of the socket addresses (host, port ...) to which there is a way.

    The hosts are numeric. It closes the socket if the block raises.

    Raises:
        ProxyFailed: there is no way to any of them; it is why not to the last.
        LocalShortage, OSError: there is no socket or port for it here.
    """
    failure = ProxyFailed("there is no address")
    for host, port, *_ in peers:
        connection = await _connect(proxy, resolver)
        try:
            await _ask(connection, proxy.request(str(host), port))
        except ProxyFailed as error:
            connection.close()
            failure = error
            continue
        except BaseException:
            connection.close()
            raise
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        return
    raise failure


async def _connect(proxy: EgressProxy, resolver: AbstractResolver) -> socket.socket:
    """Return a connection to the first of the proxy's addresses that takes one."""
    loop = asyncio.get_running_loop()
    cause: OSError = OSError(errno.EHOSTUNREACH, "no address")
    try:
        places = await resolver.resolve(proxy.host, proxy.port, socket.AF_UNSPEC)
    except OSError as error:
        raise ProxyFailed("its name did not resolve") from error
    for place in places:
        family = socket.AF_INET6 if ":" in place["host"] else socket.AF_INET
        peer = (place["host"], place["port"])
        connection = socket.socket(family)
        try:
            connection.settimeout(0)
            await loop.sock_connect(connection, peer)
        except OSError as error:
            connection.close()
            cause = error
            if error.errno == errno.EADDRNOTAVAIL and is_out_of_ports(family, peer):
                raise LocalShortage("EADDRNOTAVAIL") from error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise ProxyFailed(f"cannot be reached ({errno.errorcode.get(cause.errno or 0, 'unknown')})") from cause


async def _ask(connection: socket.socket, request: bytes) -> None:
    """Return when the proxy has answered that the tunnel stands. Targets never speak first."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(connection, request)
        head = b""
        while b"\r\n\r\n" not in head:
            part = await loop.sock_recv(connection, _MAX_HEAD_BYTES)
            head += part
            if not part:
                raise ProxyFailed("closed the connection")
            if len(head) > _MAX_HEAD_BYTES:
                raise ProxyFailed("its answer is too long")
    except ProxyFailed:
        raise
    except OSError as error:
        raise ProxyFailed("the connection broke") from error
    head, _, more = head.partition(b"\r\n\r\n")
    version, _, status = head.partition(b" ")
    code = status[:3]
    if not version.startswith(b"HTTP/1.") or not code.isdigit() or (code.startswith(b"2") and more):
        raise ProxyFailed("its answer was not valid HTTP")
    if not code.startswith(b"2"):
        raise ProxyFailed(f"answered {code.decode('ascii')}")
