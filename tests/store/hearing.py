"""Listening to a signal bus in a test: every signal, in order, without waiting for what does not come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from kuueri_grpc.ports import Lease, Reconnected, Revoked, Signal
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from tests.store.ports import signal_bus

PATIENCE_S = 30


class Ear:
    """Hears what a bus says, from its first connection on."""

    def __init__(self, bus: RedisSignalBus, instance: str) -> None:
        self.bus = bus
        self._instance = instance
        self._heard: asyncio.Queue[Signal] = asyncio.Queue()
        self._fences = 0

    async def listen(self) -> None:
        async for signal in self.bus.listen():
            self._heard.put_nowait(signal)

    async def next(self) -> Signal:
        """Wait for the next signal."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._heard.get()

    async def so_far(self) -> Sequence[Signal]:
        """Return all signals of what was done before the call, not yet returned.

        They come in the order in which the store published them, so one of our own marks the end.
        """
        self._fences += 1
        fence = Revoked(Lease("fence", "fence", str(self._fences)))
        await self.bus.send_revoked(self._instance, fence)
        signals = []
        while (signal := await self.next()) != fence:
            signals.append(signal)
        return signals


@contextlib.asynccontextmanager
async def hearing(url: str, settings: StoreSettings, instance: str = "here") -> AsyncIterator[Ear]:
    """Listen on a bus of its own until the end of the block."""
    async with signal_bus(url, settings, instance) as bus:
        ear = Ear(bus, instance)
        listening = asyncio.create_task(ear.listen())
        try:
            assert await ear.next() == Reconnected()
            yield ear
        finally:
            listening.cancel()
            await asyncio.wait([listening])
