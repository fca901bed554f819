"""The loop that watches over the store: does it serve, is it fit, is its data still the same?"""

import asyncio
import contextlib
import logging

from kuueri_grpc.engine.backoff import TRANSIENT, Backoff
from kuueri_grpc.engine.health import Health, Part
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import NO_TELEMETRY, SignalBus, StoreProbe, Telemetry, UnfitStore

_log = logging.getLogger(__name__)

_INTERVAL_S = 2.0
#: An outage is over when it is noticed that it is: so it is looked for often while it lasts.
_LONGEST_WAIT_MS = 500


class StoreMonitor:
    """Looks at the store every 2 s, and at once when there is reason to; keeps `Health` up to date.

    After an interruption of the signals, an outage, or a loss of the data it looks at everything again:
    due tasks, and what is watched. Only then does the process count as serving.
    """

    def __init__(
        self,
        probe: StoreProbe,
        bus: SignalBus,
        scheduler: Scheduler,
        watches: WatchHub,
        health: Health,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._probe = probe
        self._bus = bus
        self._scheduler = scheduler
        self._watches = watches
        self._health = health
        self._telemetry = telemetry
        self._epoch: str | None = None
        #: Things may have happened that nobody here was told of.
        self._behind = True
        self._signals_arrive = False
        #: The connection for signals dates from before an outage.
        self._signals_are_old = False
        self._doubts = health.doubts(Part.STORE)
        self._caught_up = asyncio.Event()

    def signals_lost(self, why: str) -> None:
        """No signals arrive: nothing of what others do is noticed."""
        self._signals_arrive = False
        self._health.fail(Part.SIGNALS, f"there is no connection for signals ({why})")
        self._health.doubt(Part.STORE)

    def signals_back(self) -> None:
        """Signals arrive, over a new connection; some may have been missed."""
        self._signals_arrive = True
        self._signals_are_old = False
        self._behind = True
        self._health.doubt(Part.STORE)

    async def caught_up(self) -> None:
        """Return when signals arrive and everything that was due before is known, for the first time."""
        await self._caught_up.wait()

    async def run(self) -> None:
        """Look until cancelled."""
        backoff = Backoff(longest_ms=_LONGEST_WAIT_MS)
        while True:
            try:
                await self.run_once()
            except UnfitStore as error:
                self._outage(str(error), logging.ERROR)
            except TRANSIENT as error:
                why = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
                self._outage(why, logging.WARNING)
            else:
                backoff.reset()
                await self._pause()
                continue
            await backoff.pause()

    def _outage(self, why: str, level: int) -> None:
        self._behind = True
        self._signals_are_old = self._signals_arrive
        self._health.fail(Part.STORE, why, level)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL_S):
                await self._doubts.wait()

    async def run_once(self) -> None:
        """Look once, and catch up if there is reason to.

        Raises:
            UnfitStore: the store must not be used.
            StoreUnavailable: it does not serve.
        """
        self._doubts.clear()
        self._compare(await self._probe.check())
        if self._signals_are_old:
            # The server at its other end may not be the store any more (fail-over).
            self._signals_are_old = False
            await self._bus.reconnect()
            return
        if self._behind:
            await self._catch_up()
        if self._doubts.is_set():
            return  # for a reason that is newer than this look
        self._health.mend(Part.STORE)
        if self._signals_arrive:
            self._health.mend(Part.SIGNALS)
            self._caught_up.set()

    def _compare(self, epoch: str) -> None:
        if self._epoch is not None and epoch != self._epoch:
            _log.error(
                "the store has lost its data: its epoch was %s and is %s; every project, token and task of "
                "before is gone unless a backup is restored",
                self._epoch,
                epoch,
                extra={"event": "epoch_changed", "epoch_before": self._epoch, "epoch": epoch},
            )
            self._telemetry.epoch_changed()
            self._behind = True
        self._epoch = epoch

    async def _catch_up(self) -> None:
        # First, so that what is missed from now on is caught up with by another round.
        self._behind = False
        try:
            await self._scheduler.look_again()
        except BaseException:
            self._behind = True
            raise
        self._watches.wake_all()
