"""What this process, or its machine, lacks: a descriptor, a port or memory. It says nothing of the target."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable

import aiodns
import aiohttp

from kuueri_grpc.dispatcher.chain import chain

#: Only the system itself gives these, for the lack of something here. (EAGAIN: of a port, from `connect`.)
_LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
#: How long after a lack a name that does not resolve may still have failed for it.
_AFTERMATH_S = 1.0

_UNRESOLVED = (aiohttp.ClientConnectorDNSError, aiodns.error.DNSError, socket.gaierror)

#: How long an attempt waits in all, and between two tries at the least and the most.
PATIENCE_S = 30.0
_SHORTEST_S, _LONGEST_S = 0.01, 0.32


class LocalShortage(Exception):
    """A connection could not be made for the lack of something here. `lack`: what, for the log."""

    def __init__(self, lack: str) -> None:
        super().__init__(f"no connection for a lack of this process: {lack}")
        self.lack = lack


class ShortageDetector:
    """Decides whether a connection failed for a lack of this process."""

    def __init__(self) -> None:
        self._lacked_at = -_AFTERMATH_S

    def lack_behind(self, error: BaseException) -> str | None:
        """Return what was lacking, by the name of its error; None if nothing was.

        A resolver without a descriptor reports a name that does not exist, or servers that do not answer:
        whether one is to be had is tried then.
        """
        lack = lack_in(error)
        if lack is None and any(isinstance(link, _UNRESOLVED) for link in chain(error)):
            lack = missing_now()
            if lack is None and time.monotonic() < self._lacked_at + _AFTERMATH_S:
                return "EMFILE"  # it is not noted, so that it does not prolong itself
        if lack is not None:
            self._lacked_at = time.monotonic()
        return lack


def lack_in(error: BaseException) -> str | None:
    """Return the name of what an error, or one that led to it, says is lacking; None: none does."""
    return next((lack for link in chain(error) if (lack := _lack_of(link))), None)


def _lack_of(error: BaseException) -> str | None:
    if isinstance(error, LocalShortage):
        return error.lack
    if isinstance(error, MemoryError):
        return "ENOMEM"
    if isinstance(error, OSError) and error.errno in _LACKS:
        return errno.errorcode[error.errno]
    return None


def missing_now() -> str | None:
    """Try to get a socket; return the name of what is lacking, None if there is one."""
    try:
        socket.socket().close()
    except OSError as error:
        return _lack_of(error)
    return None


def is_out_of_ports(family: int, peer: tuple[object, ...]) -> bool:
    """Return whether EADDRNOTAVAIL for this peer is for the lack of a port, and not of any way to it.

    A datagram socket takes no port of TCP; connecting one sends nothing.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(peer)
    except OSError:
        return False
    return True


class ShortageWait:
    """The waits of one attempt for what is lacking."""

    def __init__(self, has_room: Callable[[], bool]) -> None:
        self._has_room = has_room
        self._until = time.monotonic() + PATIENCE_S
        self._next_s = _SHORTEST_S

    async def again(self) -> bool:
        """Return True when `has_room` does, and False when the attempt has waited for long enough."""
        while time.monotonic() < self._until:
            await asyncio.sleep(self._next_s)
            self._next_s = min(self._next_s * 2, _LONGEST_S)
            if self._has_room():
                return True
        return False
