"""The attempts in flight in this process: each a claimed task on its way to the target and back."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from kuueri_grpc.domain.decision import Progress, decide
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.ports import Claim, Clock, Delivery, Dispatcher, Lease, NotStarted, Report

_log = logging.getLogger(__name__)


class _Attempt:
    """A claim, the asyncio task that works on it, and until when its lease holds (monotonic s)."""

    __slots__ = ("held_until", "worker")

    def __init__(self, held_until: float) -> None:
        self.held_until = held_until
        self.worker: asyncio.Task[None] | None = None


class Attempts:
    """Sends claimed tasks and reports what came of them; knows the leases that this process holds."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        reporter: Reporter,
        clock: Clock,
        *,
        max_in_flight: int,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._dispatcher = dispatcher
        self._reporter = reporter
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._draw = draw
        self._in_flight: dict[Lease, _Attempt] = {}
        self._slot_freed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = asyncio.Event()

    @property
    def free_slots(self) -> int:
        """How many more attempts may start."""
        return self._max_in_flight - len(self._in_flight)

    async def slot_freed(self) -> None:
        """Return when the next attempt ends: what was freed before may have been taken since."""
        self._slot_freed.clear()
        await self._slot_freed.wait()

    def stop_waiting(self) -> None:
        """Let `slot_freed` return although none was."""
        self._slot_freed.set()

    async def drained(self) -> None:
        """Return when no attempt is in flight."""
        await self._idle.wait()

    async def busy(self) -> None:
        """Return when an attempt is in flight."""
        await self._busy.wait()

    def leases(self) -> list[Lease]:
        """Return the leases that are held, to be renewed."""
        return list(self._in_flight)

    def extend(self, lease: Lease, held_until: float) -> None:
        """Note that a lease was renewed."""
        if attempt := self._in_flight.get(lease):
            attempt.held_until = held_until

    def start(self, claim: Claim, held_until: float) -> None:
        """Send a claimed task. `held_until`: when its lease runs out, on the monotonic clock (s)."""
        attempt = _Attempt(held_until)
        self._in_flight[claim.lease] = attempt
        self._idle.clear()
        self._busy.set()
        attempt.worker = asyncio.create_task(self._run(claim, attempt))
        # No `finally` in the coroutine: a task that is cancelled before its first step never gets there.
        attempt.worker.add_done_callback(lambda _: self._ended(claim.lease))

    async def abort(self, lease: Lease) -> bool:
        """Stop an attempt; return once nothing more of it is sent. False: it is not in flight here."""
        attempt = self._in_flight.get(lease)
        if attempt is None or attempt.worker is None:
            return False
        attempt.worker.cancel()
        await asyncio.wait([attempt.worker])
        return True

    async def abort_all(self) -> None:
        """Stop every attempt; their leases run out and others take the tasks again."""
        await asyncio.gather(*(self.abort(lease) for lease in self.leases()))

    async def _run(self, claim: Claim, attempt: _Attempt) -> None:
        try:
            # A process that was stopped for long may come back when its lease is somebody else's.
            outcome = await self._dispatcher.send(
                _delivery(claim), lambda: time.monotonic() < attempt.held_until
            )
            decision = decide(
                claim.retry,
                claim.repeat,
                Progress(claim.retry_count, claim.repeat_count, claim.run_start_ms),
                outcome,
                now_ms=self._clock.now_ms(),
                draw=self._draw(),
            )
            if not await self._reporter.report(Report(claim.lease, outcome, decision)):
                _log.warning(
                    "the outcome of attempt %d of task %s came too late: its lease was lost",
                    claim.attempt,
                    claim.task_id,
                )
        except NotStarted:
            _log.warning(
                "attempt %d of task %s was not sent: its lease had run out", claim.attempt, claim.task_id
            )
        except Exception:  # noqa: BLE001 - whatever it was, the slot must be freed and the rest go on
            # The lease runs out and the task is taken again; nothing is lost.
            _log.exception("attempt %d of task %s broke down", claim.attempt, claim.task_id)

    def _ended(self, lease: Lease) -> None:
        del self._in_flight[lease]
        self._slot_freed.set()
        if not self._in_flight:
            self._idle.set()
            self._busy.clear()


def _delivery(claim: Claim) -> Delivery:
    return Delivery(
        project_id=claim.project_id,
        task_id=claim.task_id,
        attempt=claim.attempt,
        retry_count=claim.retry_count,
        retry_limit=claim.retry.budget,
        repeat_count=claim.repeat_count,
        repeat_limit=claim.repeat.budget,
        schedule_time_ms=claim.schedule_time_ms,
        timeout_ms=claim.timeout_ms,
        target=claim.target,
        signing_secrets=claim.signing_secrets,
    )
