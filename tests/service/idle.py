"""Connections that are opened, become HTTP/2, and make no call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: The preface of HTTP/2 and settings that change nothing.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


class Idlers:
    """Idle connections. `open` are those that the server has not closed."""

    def __init__(self, count: int) -> None:
        self.open = 0
        self._to_come = count
        self._changed = asyncio.Condition()

    async def until_open(self, most: float) -> None:
        """Return when all have come, and no more than so many are open."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._to_come and self.open <= most)

    async def hold(self, port: int, source: str) -> None:
        """Open a connection and keep it until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        self.open += 1
        self._to_come -= 1
        try:
            writer.write(GREETING)
            while await reader.read(65_536):
                pass
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()
            async with self._changed:
                self._changed.notify_all()


@asynccontextmanager
async def idling(port: int, count: int, source: str) -> AsyncIterator[Idlers]:
    """Hold so many connections from an address of this machine."""
    idlers = Idlers(count)
    holding = [asyncio.create_task(idlers.hold(port, source)) for _ in range(count)]
    try:
        yield idlers
    finally:
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
