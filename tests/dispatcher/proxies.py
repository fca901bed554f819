"""A proxy that makes tunnels (HTTP CONNECT), on a real socket, and knows what it was asked for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kuueri_grpc.dispatcher import EgressProxy
from tests.dispatcher.targets import Connection, serving

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Proxy:
    port: int
    #: The request lines that it got, and the values of Proxy-Authorization.
    asked: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    #: What it has relayed from clients to targets.
    relayed: bytearray = field(default_factory=bytearray)

    def way(self, credentials: str = "", host: str = "127.0.0.1") -> EgressProxy:
        return EgressProxy.parse(f"http://{credentials}{host}:{self.port}")


@asynccontextmanager
async def proxying(answer: bytes = ESTABLISHED) -> AsyncIterator[Proxy]:
    """Run a proxy. With an answer of the test's own it relays nothing; with an empty one it closes."""
    proxy = Proxy(0)

    async def handle(connection: Connection) -> None:
        request = await connection.read_head()
        proxy.asked.append(f"{request.method} {request.path}")
        proxy.authorizations.append(request.headers.get("proxy-authorization", ""))
        if answer != ESTABLISHED:
            return await connection.send(answer)
        host, _, port = request.path.rpartition(":")
        try:
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            return await connection.send(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        await connection.send(answer)
        back = asyncio.create_task(_relay(reader, connection.writer))
        try:
            while data := await connection.reader.read(1 << 16):
                proxy.relayed += data
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
            await back
        return None

    async with serving(handle) as listener:
        proxy.port = listener.port
        yield proxy


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
