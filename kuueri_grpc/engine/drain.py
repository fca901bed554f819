"""The orderly end of an instance's work: nothing is lost by it, nothing done twice if there is time."""

import asyncio
import contextlib
import logging
import time

from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.backoff import TRANSIENT
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import NO_TELEMETRY, ExecutionStore, Telemetry

_log = logging.getLogger(__name__)

#: What is kept of the grace time for handing back what did not end in it: this, or this share if it is less.
_HAND_BACK_S, _HAND_BACK_SHARE = 1.0, 0.25


class Drain:
    """Claims nothing more, ends the watches, lets attempts end, and hands back those that do not."""

    def __init__(
        self,
        scheduler: Scheduler,
        watches: WatchHub,
        attempts: Attempts,
        store: ExecutionStore,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._scheduler = scheduler
        self._watches = watches
        self._attempts = attempts
        self._store = store
        self._telemetry = telemetry
        self._begun_at = time.monotonic()

    def begin(self) -> None:
        """Take on nothing more, and close the watches with their tokens."""
        self._begun_at = time.monotonic()
        _log.info(
            "stopping with %d attempts and %d watches",
            self._attempts.in_flight,
            self._watches.watchers,
            extra={"event": "drain_began"},
        )
        self._scheduler.stop()
        self._watches.drain()

    async def finish(self, grace_s: float) -> None:
        """Return when no attempt is in flight, in `grace_s` as a rule; a slow store may take a second more.

        The loops that renew leases and report outcomes must run meanwhile.
        """
        try:
            async with asyncio.timeout(grace_s - min(_HAND_BACK_S, grace_s * _HAND_BACK_SHARE)):
                # The claim that was under way may start some.
                await self._scheduler.stopped()
                await self._attempts.drained()
        except TimeoutError:
            await self._hand_back()
        seconds = round(time.monotonic() - self._begun_at, 3)
        _log.info(
            "no attempt is in flight any more after %.1f s",
            seconds,
            extra={"event": "drain_ended", "seconds": seconds},
        )

    async def _hand_back(self) -> None:
        """Abort the attempts that did not end in time, and let others have their tasks at once."""
        self._scheduler.close()
        aborted = await self._attempts.abort_unanswered()
        with contextlib.suppress(TimeoutError):
            # What is left has an outcome, and its report is under way.
            async with asyncio.timeout(_HAND_BACK_S / 2):
                await self._attempts.drained()
        unreported = await self._attempts.abort_all()
        answers: list[bool | None] = [None] * len(aborted)
        with contextlib.suppress(*TRANSIENT):
            async with asyncio.timeout(_HAND_BACK_S / 2):
                answers = await self._store.release(aborted)
        if handed_back := answers.count(True):
            self._telemetry.attempts_recovered(handed_back, Reason.HANDED_BACK)
            _log.warning(
                "%d attempts did not end in time: they were aborted and handed back",
                handed_back,
                extra={"event": "attempts_handed_back"},
            )
        if left := answers.count(None) + len(unreported):
            self._telemetry.attempts_left(left)
            _log.warning(
                "%d attempts were aborted and could not be handed back or reported, as the store does not "
                "serve; their tasks are taken again when their leases have run out",
                left,
                extra={"event": "attempts_aborted"},
            )
