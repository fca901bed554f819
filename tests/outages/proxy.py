"""A TCP proxy: what a network, a load balancer or a moved address does to connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.acceptance.served import PATIENCE_S


class Proxy:
    """Forwards connections to `upstream` (a port), and interferes as it is told.

    A change of `upstream` is for new connections, as with a name or an address that moved.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.cuts = 0
        self._needle: bytes | None = None
        self._cut = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut_answer_to(self, needle: bytes) -> None:
        """Once: close the connection of the next command with `needle` in it, when the server has answered.

        So the command was carried out, and who sent it does not know.
        """
        self._needle = needle
        self._cut.clear()

    async def was_cut(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._cut.wait()

    def hold(self) -> None:
        """Forward nothing from now on; connections stay open."""
        self._open.clear()

    def close_connections(self) -> None:
        """Close all connections; new ones are taken."""
        for connection in self._connections:
            connection.cancel()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        marked = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                there = group.create_task(self._pump(reader, up_writer, marked))
                back = group.create_task(self._answers(up_reader, writer, marked))
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        finally:
            up_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            if self._needle is not None and self._needle in data:
                self._needle = None
                marked.set()
            writer.write(data)

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            if marked.is_set():
                self.cuts += 1
                self._cut.set()
                return
            writer.write(data)


@asynccontextmanager
async def between(upstream: int) -> AsyncIterator[Proxy]:
    """Run a proxy until the block ends."""
    proxy = Proxy(upstream)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.close_connections()
        await server.wait_closed()
