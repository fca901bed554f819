"""Hand the signals of other instances, and the store's wake-ups, to whom they concern."""

import asyncio
import logging

from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.backoff import TRANSIENT
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.store_monitor import StoreMonitor
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import (
    Changed,
    CredentialsChanged,
    Disconnected,
    Due,
    Reconnected,
    Revoke,
    Revoked,
    Signal,
    SignalBus,
    Spent,
)

_log = logging.getLogger(__name__)


class Switchboard:
    """The one reader of the process's signals."""

    def __init__(
        self,
        bus: SignalBus,
        scheduler: Scheduler,
        watches: WatchHub,
        revocations: Revocations,
        monitor: StoreMonitor,
        authenticator: Authenticator,
        throttle: CallThrottle,
    ) -> None:
        self._bus = bus
        self._scheduler = scheduler
        self._watches = watches
        self._revocations = revocations
        self._monitor = monitor
        self._authenticator = authenticator
        self._throttle = throttle
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Hand on signals until cancelled."""
        async for signal in self._bus.listen():
            self._hand_on(signal)

    def _hand_on(self, signal: Signal) -> None:
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
            case CredentialsChanged(project_id):
                self._authenticator.forget(project_id)
            case Spent(calls):
                self._throttle.spent_elsewhere(calls)
            case Reconnected():
                self._authenticator.signals_back()
                self._monitor.signals_back()
            case Disconnected(why):
                self._authenticator.signals_lost()
                self._monitor.signals_lost(why)

    async def _answer(self, revoke: Revoke) -> None:
        try:
            await self._revocations.answer(revoke)
        except TRANSIENT as error:
            # The asker waits for the lease to run out instead.
            _log.warning("telling another instance that an attempt was stopped failed: %s", error)
