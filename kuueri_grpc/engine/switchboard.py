"""Hand the signals of other instances, and the store's wake-ups, to whom they concern."""

import asyncio
import logging

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine.backoff import Backoff
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import Changed, Due, Reconnected, Revoke, Revoked, Signal, SignalBus

_log = logging.getLogger(__name__)


class Switchboard:
    """The one reader of the process's signals."""

    def __init__(
        self, bus: SignalBus, scheduler: Scheduler, watches: WatchHub, revocations: Revocations
    ) -> None:
        self._bus = bus
        self._scheduler = scheduler
        self._watches = watches
        self._revocations = revocations
        self._connected = asyncio.Event()
        self._answers: set[asyncio.Task[None]] = set()

    async def connected(self) -> None:
        """Return when signals arrive and everything that was due before is known."""
        await self._connected.wait()

    async def run(self) -> None:
        """Hand on signals until cancelled."""
        async for signal in self._bus.listen():
            await self._hand_on(signal)

    async def _hand_on(self, signal: Signal) -> None:
        match signal:
            case Due(partition, at_ms):
                self._scheduler.wake(partition, at_ms)
            case Changed():
                self._watches.changed(signal)
            case Revoked():
                self._revocations.resolve(signal)
            case Revoke():
                # Ending an attempt takes a moment; the next signal does not wait for it.
                answer = asyncio.create_task(self._answer(signal))
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)
            case Reconnected():
                await self._catch_up()

    async def _catch_up(self) -> None:
        backoff = Backoff()
        # Signals come from a store that does not answer yet, too, as while it loads its data: what was
        # missed would be missed for good. Nothing is heard meanwhile; it waits in the connection.
        while True:
            try:
                await self._scheduler.look_again()
                break
            except StoreUnavailable as error:
                await backoff.wait("looking for due tasks", error)
        self._watches.wake_all()
        self._connected.set()

    async def _answer(self, revoke: Revoke) -> None:
        try:
            await self._revocations.answer(revoke)
        except StoreUnavailable as error:
            # The asker waits for the lease to run out instead.
            _log.warning("telling another instance that an attempt was stopped failed: %s", error)
