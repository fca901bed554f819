"""The attempts in flight in this process: each a claimed task on its way to the target and back."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from kuueri_grpc.domain.decision import Progress, decide
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.engine.lanes import Lanes
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.shares import Shares
from kuueri_grpc.engine.suspects import Suspects
from kuueri_grpc.ports import (
    NO_TELEMETRY,
    Claim,
    Clock,
    Delivery,
    Dispatcher,
    Lease,
    NotStarted,
    Report,
    ResourcesLacking,
    Telemetry,
    Unfinished,
)

_log = logging.getLogger(__name__)

#: The share of all slots that may wait for a turn at one target before more of its tasks are left alone.
_FULL_SHARE = 16


class _Attempt:
    """The asyncio task that works on a claim, and until when its lease holds (monotonic s).

    `started_ms`: when it was about to be sent, on the store's clock; 0: it waits for its turn at its target.
    `has_outcome`: it only has to be reported.
    """

    __slots__ = ("has_outcome", "held_until", "number", "started_ms", "worker")

    def __init__(self, number: int, held_until: float) -> None:
        self.number = number
        self.held_until = held_until
        self.started_ms = 0
        self.has_outcome = False
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
        max_bytes: int = 256 << 20,
        draw: Callable[[], float] = random.random,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._dispatcher = dispatcher
        self._reporter = reporter
        self._clock = clock
        self._draw = draw
        self._telemetry = telemetry
        self._in_flight: dict[Lease, _Attempt] = {}
        self._lanes = Lanes(max(1, max_in_flight // _FULL_SHARE))
        self._shares = Shares(max_in_flight, max_bytes, self._lanes)
        self._suspects = Suspects()
        self._slot_freed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = asyncio.Event()

    @property
    def free_slots(self) -> int:
        """How many more attempts may start.

        Those that wait for their turn at their target take no slot, or a slow target would take all. Their
        number is bounded all the same, and so are the bytes of all requests: they take memory.
        """
        return self._shares.free.attempts

    @property
    def in_flight(self) -> int:
        """How many attempts are under way."""
        return len(self._in_flight)

    @property
    def lanes(self) -> Lanes:
        """Who waits for a turn at a target."""
        return self._lanes

    @property
    def shares(self) -> Shares:
        """What the attempts of each project take."""
        return self._shares

    @property
    def suspects(self) -> Suspects:
        """Which of them are watched."""
        return self._suspects

    async def slot_freed(self) -> None:
        """Return when there may be a free slot.

        That is when the next attempt ends: what was freed before may have been taken since. Or at once, where
        attempts that were just started turn out to wait for their turn.
        """
        self._slot_freed.clear()
        await asyncio.sleep(0)  # they get as far as that
        if self.free_slots <= 0:
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

    def number_of(self, lease: Lease) -> int | None:
        """Return the number of an attempt in flight; None if it is not."""
        attempt = self._in_flight.get(lease)
        return None if attempt is None else attempt.number

    def has_outcome(self, lease: Lease) -> bool:
        """Return whether an attempt is over and its report under way, whose answer says what counts."""
        attempt = self._in_flight.get(lease)
        return attempt is not None and attempt.has_outcome

    def extend(self, lease: Lease, held_until: float) -> None:
        """Note that a lease was renewed."""
        if attempt := self._in_flight.get(lease):
            attempt.held_until = held_until

    def start(self, claim: Claim, held_until: float) -> None:
        """Send a claimed task. `held_until`: when its lease runs out, on the monotonic clock (s)."""
        attempt = _Attempt(claim.attempt, held_until)
        self._in_flight[claim.lease] = attempt
        self._shares.start(claim.project_id, claim.size)
        self._idle.clear()
        self._busy.set()
        if claim.watch_ms:
            self._suspects.watch(claim)
        attempt.worker = asyncio.create_task(self._run(claim, attempt))
        # No `finally` in the coroutine: a task that is cancelled before its first step never gets there.
        attempt.worker.add_done_callback(lambda _: self._ended(claim))

    async def abort(self, lease: Lease) -> bool:
        """Stop an attempt; return once nothing more of it is sent. False: it is not in flight here."""
        attempt = self._in_flight.get(lease)
        if attempt is None or attempt.worker is None:
            return False
        attempt.worker.cancel()
        await asyncio.wait([attempt.worker])
        return True

    async def abort_all(self) -> list[Lease]:
        """Stop every attempt; return the leases of those that were stopped."""
        return await self._abort(self.leases())

    async def abort_unanswered(self) -> list[Lease]:
        """Stop every attempt without an outcome; return the leases of those that were stopped.

        An outcome that is known only has to be reported; without it the task would be sent again.
        """
        return await self._abort([lease for lease in self._in_flight if not self.has_outcome(lease)])

    async def _abort(self, leases: Sequence[Lease]) -> list[Lease]:
        stopped = await asyncio.gather(*(self.abort(lease) for lease in leases))
        return [lease for lease, was_in_flight in zip(leases, stopped, strict=True) if was_in_flight]

    async def _run(self, claim: Claim, attempt: _Attempt) -> None:
        try:
            outcome = await self._send(claim, attempt)
            attempt.has_outcome = True
            await self._report(claim, outcome)
        except NotStarted:
            self._telemetry.attempt_unfinished(Unfinished.NOT_SENT)
            _log.warning(
                "an attempt was not sent: its lease had run out", extra=_fields(claim, "attempt_not_sent")
            )
        except ResourcesLacking as error:
            self._telemetry.attempt_unfinished(Unfinished.NOT_SENT)
            _log.warning(
                "an attempt was not sent for a lack of this process (%s): its task is given back",
                error.lack,
                extra=_fields(claim, "attempt_not_sent"),
            )
            if await self._reporter.give_back(claim.lease):
                self._telemetry.attempts_recovered(1, Reason.HANDED_BACK)
        except Exception:  # noqa: BLE001 - whatever it was, the slot must be freed and the rest go on
            # The lease runs out and the task is taken again; nothing is lost.
            self._telemetry.attempt_unfinished(Unfinished.BROKE_DOWN)
            _log.exception("an attempt broke down", extra=_fields(claim, "attempt_broke_down"))

    def _ended(self, claim: Claim) -> None:
        del self._in_flight[claim.lease]
        self._suspects.leave(claim.lease)
        self._shares.end(claim.project_id, claim.size)
        self._slot_freed.set()
        if not self._in_flight:
            self._idle.set()
            self._busy.clear()

    async def _send(self, claim: Claim, attempt: _Attempt) -> Outcome:
        def may_start() -> bool:
            if not attempt.started_ms:
                attempt.started_ms = self._clock.now_ms()
                self._leave_lane(claim)
            # A process that was stopped for long may come back when its lease is somebody else's.
            return time.monotonic() < attempt.held_until

        self._lanes.enter(claim.project_id, claim.lane)
        try:
            outcome = await self._dispatcher.send(_delivery(claim), may_start)
        except asyncio.CancelledError:
            self._telemetry.attempt_unfinished(Unfinished.ABORTED)
            raise
        finally:
            if not attempt.started_ms:
                self._leave_lane(claim)
        late_ms = max(0, attempt.started_ms - claim.due_ms)
        self._telemetry.attempt_ended(claim.project_id, claim.queue, outcome, late_ms)
        return outcome

    def _leave_lane(self, claim: Claim) -> None:
        self._lanes.leave(claim.project_id, claim.lane)
        self._shares.changed()

    async def _report(self, claim: Claim, outcome: Outcome) -> None:
        decision = decide(
            claim.retry,
            claim.repeat,
            Progress(claim.retry_count, claim.repeat_count, claim.run_start_ms),
            outcome,
            now_ms=self._clock.now_ms(),
            draw=self._draw(),
        )
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "an attempt ended: %s, then %s",
                outcome.reason or "SUCCEEDED",
                decision.trigger,
                extra=_fields(claim, "attempt_ended"),
            )
        if not await self._reporter.report(Report(claim.lease, outcome, decision)):
            self._telemetry.report_stale()
            _log.warning(
                "an outcome came too late and changed nothing: the lease of its attempt was lost",
                extra=_fields(claim, "report_stale"),
            )


def _fields(claim: Claim, event: str) -> dict[str, object]:
    """Return what a log line says of a claim."""
    return {"event": event, "project": claim.project_id, "task": claim.task_id, "attempt": claim.attempt}


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
        create_time_ms=claim.create_time_ms,
        timeout_ms=claim.timeout_ms,
        target=claim.target,
        signing_secrets=claim.signing_secrets,
    )
