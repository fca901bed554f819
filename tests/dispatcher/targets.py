"""Targets to send attempts to: real servers on loopback that speak the protocol byte by byte."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """One accepted connection. `lost` is set when the peer has closed or reset it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: list[Received]

    async def read_head(self) -> Received:
        """Read up to the body. Raises IncompleteReadError or OSError when the peer is gone."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Received(method, path, headers, b"")

    async def read_request(self) -> Received:
        request = await self.read_head()
        request.body = await self.reader.readexactly(int(request.headers.get("content-length", "0")))
        self.received.append(request)
        return request

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def wait_lost(self) -> bytes:
        """Read until the peer has closed or reset the connection; return what it still sent."""
        rest = bytearray()
        with suppress(OSError):
            while data := await self.reader.read(1 << 16):
                rest += data
        return bytes(rest)


Handler = Callable[[Connection], Awaitable[None]]


@dataclass
class Target:
    port: int
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    errors: list[BaseException] = field(default_factory=list)
    open_connections: int = 0
    _changes: list[asyncio.Event] = field(default_factory=list)

    async def changed(self) -> None:
        """Wait until a connection is accepted or has been dealt with."""
        event = asyncio.Event()
        self._changes.append(event)
        await event.wait()

    def note_change(self) -> None:
        for event in self._changes:
            event.set()
        self._changes.clear()

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def answering(*answers: bytes) -> Handler:
    """Answer the requests of a connection one after the other, the last one for ever."""

    async def handle(connection: Connection) -> None:
        left = list(answers)
        while True:
            await connection.read_request()
            await connection.send(left.pop(0) if len(left) > 1 else left[0])

    return handle


def answer(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    fields = {"content-length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@asynccontextmanager
async def serving(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Target]:
    """Run a target. A handler that ends closes its connection; a peer that goes ends the handler."""
    target = Target(0)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        target.connections += 1
        target.open_connections += 1
        target.note_change()
        try:
            await handler(Connection(reader, writer, target.received))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer is gone
        except asyncio.CancelledError:
            pass  # the test is over
        except Exception as error:  # noqa: BLE001 - raised where the test can see it
            target.errors.append(error)
        finally:
            writer.transport.abort() if not writer.is_closing() and _unsent(writer) else writer.close()
            tasks.discard(task)
            target.open_connections -= 1
            target.note_change()

    listener = _listener(host)
    target.port = listener.getsockname()[1]
    server = await asyncio.start_server(accept, sock=listener, ssl=tls)
    try:
        yield target
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
    assert not target.errors, target.errors


def _listener(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family is socket.AF_INET6 and not _has_ipv6():
        pytest.skip("there is no IPv6 here")
    listener = socket.socket(family)
    # Small, so that what a target does not read stays with the sender.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    listener.bind((host, 0))
    return listener


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _unsent(writer: asyncio.StreamWriter) -> bool:
    return bool(writer.transport.get_write_buffer_size())
