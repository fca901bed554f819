"""The port that a server listens on, with all its workers."""

import contextlib
import errno
import socket
from collections.abc import Iterator

from kuueri_grpc.config import Settings
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.ready import shown

#: What a machine says of an address that is none of its own, as `::1` of localhost where IPv6 is off.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@contextlib.contextmanager
def reserved_port(settings: Settings) -> Iterator[int | None]:
    """Keep the port of a server; None where it has no gRPC server. Raises as `reserved` does."""
    if "api" not in settings.roles:
        yield None
        return
    with reserved(settings.host, settings.port) as port:
        yield port


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port for the workers, whether one of them listens at the moment or not; give its number.

    Sockets with SO_REUSEPORT share a port with all others of the same user that have it, so another server
    on the port would go unnoticed, and get a share of the calls. Therefore the port is first bound without
    it. The socket that then keeps the port never listens: the kernel gives connections to listeners alone.

    Args:
        host: a name or a literal address; all addresses of a name are kept that this machine has.
        port: 0 picks a free one.

    Raises:
        StartError: the port is in use, or there is no such address here.
    """
    with contextlib.ExitStack() as held:
        try:
            port = _keep_all(held, host, port)
        except OSError as error:
            raise StartError(_explain(host, port, error)) from error
        yield port


def _keep_all(held: contextlib.ExitStack, host: str, port: int) -> int:
    missing: OSError | None = None
    kept = False
    for family, address in _addresses(host):
        try:
            port = _find(family, address, port)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            missing = error
        else:
            held.enter_context(_keep(family, address, port))
            kept = True
    if missing is not None and not kept:
        raise missing
    return port


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _find(family: socket.AddressFamily, address: str, port: int) -> int:
    """Return the port, which nobody listens on."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if port:
            # What is left of connections that were closed is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, address, port)
        return int(probe.getsockname()[1])


def _keep(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    """Return a socket that is bound and can be joined by those of the workers.

    Without SO_REUSEADDR, if closed connections allow that: it would let `_find` of another supervisor
    overlook this socket.
    """
    for options in ((socket.SO_REUSEPORT,), (socket.SO_REUSEPORT, socket.SO_REUSEADDR)):
        keeper = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in options:
                keeper.setsockopt(socket.SOL_SOCKET, option, 1)
            _bind(keeper, address, port)
        except OSError as error:
            keeper.close()
            if error.errno != errno.EADDRINUSE or len(options) > 1:
                raise
        else:
            return keeper
    raise AssertionError("the last turn returns or raises")


def _bind(bound: socket.socket, address: str, port: int) -> None:
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((address, port))


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use on {host}, maybe by another kuueri; "
            "stop that server, or take another port with --port"
        )
    return f"cannot listen on {shown(host, port)}: {error.strerror or error}"
