"""The connections of clients to a port of this process, as the kernel has them.

gRPC's core accepts connections by itself, shows none of them, and bounds them by their number alone: it
closes those that come beyond `max_allowed_incoming_connections`. A client that opens as many and makes no
call would keep all others out. Here connections are found among the descriptors of the process, and closed by
shutdown(2): to a client that is a lost connection (UNAVAILABLE, and it connects anew), to gRPC a client that
has gone.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kuueri_grpc.service.peers import network

_log = logging.getLogger(__name__)

_FDS = Path("/dev/fd")
_LOOK_AGAIN_S = 0.25
_LOG_AGAIN_S = 60.0
#: Of all connections, those that stay open: the rest is for those that come.
_KEPT_PART = 3 / 4
#: <linux/tcp.h>, struct tcp_info: milliseconds since data was sent, and since data was received.
_TCP_INFO_LENGTH, _SINCE_SENT, _SINCE_RECEIVED = 64, 44, 52


@dataclass(frozen=True, slots=True)
class _Connection:
    """A descriptor of this process, what identifies its socket, and the network that the client is in."""

    fd: int
    inode: int
    network: str


class ClientConnections:
    """Bounds the connections to a port that are open, and shares them among networks.

    Once more than three quarters of `most` are open, the networks with the most of them (a network is an
    address, a /64 in IPv6) lose those that were idle for longest, until three quarters are left.
    """

    def __init__(self, port: int, most: int) -> None:
        self._port = port
        self._kept = int(most * _KEPT_PART)
        #: Descriptors that were looked at: their inode, and the connection if it is one.
        self._known: dict[int, tuple[int, _Connection | None]] = {}
        self._closed = 0
        self._log_at = 0.0

    async def run(self) -> None:
        """Keep to the bound until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            self.keep_to_bound()

    def keep_to_bound(self) -> None:
        """Close what is too much now."""
        if _open_descriptors() <= self._kept:
            return
        found = self._find()
        by_network: defaultdict[str, list[_Connection]] = defaultdict(list)
        for connection in found:
            by_network[connection.network].append(connection)
        share = _fair_share([len(theirs) for theirs in by_network.values()], self._kept)
        for theirs in by_network.values():
            if len(theirs) > share:
                self._close_idle(theirs, len(theirs) - share)
        self._log_closed(len(found))

    def stop_listening(self) -> None:
        """Take no more connections, and leave the port to others; connections that are open stay so."""
        self._shut_down(listeners=True)

    def close_all(self) -> None:
        """Close every connection: calls that are under way end with UNAVAILABLE."""
        self._shut_down(listeners=False)

    def _shut_down(self, *, listeners: bool) -> None:
        for found in self._sockets(listening=listeners):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def _close_idle(self, connections: Sequence[_Connection], count: int) -> None:
        idle = {connection: _idle_ms(connection) for connection in connections}
        for connection in sorted(connections, key=idle.__getitem__, reverse=True)[:count]:
            with _opened(connection.fd) as found:
                if found is not None and os.fstat(found.fileno()).st_ino == connection.inode:
                    with contextlib.suppress(OSError):
                        found.shutdown(socket.SHUT_RDWR)
                    self._closed += 1

    def _log_closed(self, open_before: int) -> None:
        now = time.monotonic()
        if self._closed and now >= self._log_at:
            _log.warning(
                "%d connections of clients were open: %d of those that were idle for longest were closed, so "
                "that others get in",
                open_before,
                self._closed,
                extra={"event": "connections_closed"},
            )
            self._closed, self._log_at = 0, now + _LOG_AGAIN_S

    def _find(self) -> list[_Connection]:
        """Return the connections that are open."""
        known: dict[int, tuple[int, _Connection | None]] = {}
        for fd in _descriptors():
            try:
                status = os.fstat(fd)
            except OSError:
                continue  # it was closed meanwhile
            before = self._known.get(fd)
            if before is None or before[0] != status.st_ino:
                found = self._connection(fd, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None
                before = (status.st_ino, found)
            known[fd] = before
        self._known = known
        return [connection for _, connection in known.values() if connection is not None]

    def _connection(self, fd: int, inode: int) -> _Connection | None:
        with _opened(fd) as found:
            if found is None or not self._is_ours(found):
                return None
            try:
                peer = found.getpeername()
            except OSError:
                return None  # a listener, or not connected any more
            return _Connection(fd, inode, network(str(peer[0])))

    def _is_ours(self, found: socket.socket) -> bool:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
            return False
        with contextlib.suppress(OSError):
            return bool(found.getsockname()[1] == self._port)
        return False

    def _sockets(self, *, listening: bool) -> Iterator[socket.socket]:
        for fd in _descriptors():
            with _opened(fd) as found:
                if found is None or not self._is_ours(found):
                    continue
                if bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) == listening:
                    yield found


def _fair_share(counts: Sequence[int], room: int) -> int:
    """Return how many each may have so that all together have `room` at the most; less is nobody's loss."""
    left = sorted(counts)
    for place, count in enumerate(left):
        if count * (len(left) - place) > room:
            return room // (len(left) - place)
        room -= count
    return max(left, default=0)


def _descriptors() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(_FDS)]  # noqa: PTH208  half the time, and they are many
    return []


def _open_descriptors() -> int:
    with contextlib.suppress(OSError):
        # Linux tells the number as the size, from 6.2 on.
        return _FDS.stat().st_size or len(list(_FDS.iterdir()))
    return 0


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[socket.socket | None]:
    """Give a socket by a descriptor of its own: gRPC may close the other one at any time."""
    try:
        copy = os.dup(fd)
    except OSError:
        yield None
        return
    try:
        found = socket.socket(fileno=copy)
    except OSError:  # no socket
        os.close(copy)
        yield None
        return
    with found:
        yield found


def _idle_ms(connection: _Connection) -> int:
    """Return for how long nothing was sent or received; 0 where the system does not tell."""
    with _opened(connection.fd) as found:
        if found is None or not hasattr(socket, "TCP_INFO"):
            return 0
        try:
            info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_LENGTH)
            sent, received = (struct.unpack_from("=I", info, at)[0] for at in (_SINCE_SENT, _SINCE_RECEIVED))
        except (OSError, struct.error):
            return 0
        return int(min(sent, received))
