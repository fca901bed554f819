"""A target whose sockets are read without waiting for the event loop's turn.

What a peer on this machine has sent is in the kernel when its send call returns. `drain_now` takes all of
that at once, in the middle of other code: after it, whatever arrives was sent later.
"""

import asyncio
import random
import re
import socket
from collections import Counter

_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LAST_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REQUEST = re.compile(rb"POST /(\S+) HTTP/1\.1\r\n(?:.+\r\n)+?\r\n")


class RawTarget:
    """Counts the requests that have begun to arrive, by their path; answers within a few milliseconds.

    Half of the answers end the connection, so that attempts have to connect, too.
    """

    def __init__(self, draw: random.Random, slowest_answer_ms: float) -> None:
        self.arrivals: Counter[str] = Counter()
        self._draw = draw
        self._slowest_answer_ms = slowest_answer_ms
        self._loop = asyncio.get_running_loop()
        self._connections: dict[socket.socket, bytearray] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4_096)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/{path}"

    def drain_now(self) -> None:
        """Take every connection and every byte that have arrived."""
        self._accept()
        for connection in list(self._connections):
            self._read(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            self._connections[connection] = bytearray()
            self._loop.add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        received = self._connections[connection]
        try:
            while chunk := connection.recv(65_536):
                received += chunk
                self._take(connection, received)
        except BlockingIOError:
            return
        except ConnectionResetError:
            pass
        self._close(connection)

    def _take(self, connection: socket.socket, received: bytearray) -> None:
        while found := _REQUEST.match(received):
            self.arrivals[found[1].decode()] += 1
            del received[: found.end()]
            delay_s = self._draw.uniform(0, self._slowest_answer_ms) / 1_000
            self._loop.call_later(delay_s, self._respond, connection)

    def _respond(self, connection: socket.socket) -> None:
        if connection not in self._connections:
            return
        is_last = self._draw.random() < 0.5
        try:
            connection.send(_LAST_RESPONSE if is_last else _RESPONSE)
        except OSError:
            is_last = True
        if is_last:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        del self._connections[connection]
        self._loop.remove_reader(connection)
        connection.close()

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            self._close(connection)
