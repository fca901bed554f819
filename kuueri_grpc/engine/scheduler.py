"""The loop that takes due tasks and starts their attempts."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.engine.agenda import Agenda
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.backoff import TRANSIENT, Backoff
from kuueri_grpc.engine.health import Health, Part
from kuueri_grpc.engine.ownership import Ownership
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.turns import Turns
from kuueri_grpc.ports import NO_TELEMETRY, ClaimBatch, Clock, ExecutionStore, LostAttempt, Telemetry

_log = logging.getLogger(__name__)

_WHY_AGAIN = {
    Reason.LEASE_LOST: "whoever had it let its lease run out",
    Reason.HANDED_BACK: "the store's answer that gave it to this server was lost",
}


class Scheduler:
    """Claims what is due, sleeps until the next due instant, and is woken by anything earlier.

    It never polls: the agenda knows the next instant of every partition, claims refresh it, and a
    change made elsewhere arrives as a signal. In partitions that others look at first, its look comes a
    little after the due instant; a backlog is taken from by all at once.
    """

    def __init__(
        self,
        store: ExecutionStore,
        attempts: Attempts,
        revocations: Revocations,
        clock: Clock,
        settings: EngineSettings,
        instance: str,
        health: Health,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._revocations = revocations
        self._clock = clock
        self._settings = settings
        self._instance = instance
        self._health = health
        self._telemetry = telemetry
        self._agenda = Agenda()
        self._turns = Turns(settings.claim_batch)
        #: Partitions with due tasks whose targets had no room.
        self._held_up: set[int] = set()
        attempts.lanes.on_room(self._look_at_held_up)
        #: Partitions that may have suspects for whom there was no room, in the order of their turns.
        self._left_suspects: dict[int, None] = {}
        attempts.suspects.on_room(self._look_for_a_suspect)
        # Until it knows of others.
        self._delay_ms: Callable[[int], int] = lambda _: 0
        self._woken = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False
        self._closed = False

    def share(self, ownership: Ownership) -> None:
        """Leave the first look at each partition to its owner from now on."""
        self._delay_ms = ownership.delay_ms

    def wake(self, partition: int, at_ms: int) -> None:
        """Something in `partition` is due at `at_ms`."""
        if self._agenda.advance(partition, at_ms + self._delay_ms(partition)):
            self._woken.set()

    def _look_at_held_up(self) -> None:
        now_ms = self._clock.now_ms()
        for partition in self._held_up:
            self._agenda.advance(partition, now_ms)
        self._held_up.clear()
        self._woken.set()

    def _look_for_a_suspect(self) -> None:
        for partition in self._left_suspects:
            self._agenda.advance(partition, self._clock.now_ms())
            self._woken.set()
            return

    async def look_again(self) -> None:
        """Learn the next instant of every partition anew: signals may have been missed."""
        for partition, at_ms in (await self._store.next_due()).items():
            self.wake(partition, at_ms)

    def stop(self) -> None:
        """Claim nothing more; `run` returns."""
        self._stopping = True
        self._woken.set()
        self._attempts.stop_waiting()

    def close(self) -> None:
        """Start no attempt any more, not even of a claim that is under way: it is handed back."""
        self._closed = True

    async def stopped(self) -> None:
        """After `stop`: return when a claim that was under way has started its attempts."""
        async with self._claiming:
            pass

    async def run(self) -> None:
        """Claim and start attempts until stopped."""
        backoff = Backoff()
        while not self._stopping:
            try:
                await self.run_once()
                backoff.reset()
            except TRANSIENT as error:
                self._health.doubt(Part.STORE)
                await backoff.wait("claiming due tasks", error)

    async def _outlast(self) -> None:
        """Return when an outage is over, and every instance has had time to renew its leases.

        Leases may have run out while their holders live and nobody could renew them: the first to claim
        would take the tasks from them, and each would be sent twice.
        """
        await self._health.in_order(Part.STORE)
        await asyncio.sleep(self._settings.regain_ms / 1_000)

    async def run_once(self) -> None:
        """Claim once, or wait until there is reason to: a free slot, a due instant, a wake-up."""
        if self._attempts.free_slots <= 0:
            await self._attempts.slot_freed()
            # One freed slot is seldom alone: a slightly larger claim costs the store much less.
            await asyncio.sleep(self._settings.linger_ms / 1_000)
        if self._stopping or self._attempts.free_slots <= 0:
            return  # what was freed may have been a slot before the last claim
        now_ms = self._clock.now_ms()
        self._woken.clear()
        next_ms = self._agenda.next_ms()
        if next_ms is None or next_ms > now_ms:
            await self._sleep(None if next_ms is None else next_ms - now_ms)
            return
        if not self._health.is_in_order(Part.STORE):
            await self._outlast()
            return
        async with self._claiming:
            await self._claim(self._agenda.due(now_ms))

    async def _sleep(self, wait_ms: int | None) -> None:
        timeout = None if wait_ms is None else wait_ms / 1_000
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _claim(self, partitions: list[int]) -> None:
        limits = self._turns.limits(partitions, self._attempts.free_slots)
        held_until = time.monotonic() + self._settings.lease_ms / 1_000
        instants = self._agenda.take(limits)
        lanes = self._attempts.lanes
        freed_before = lanes.freed
        suspect_from = self._suspect_from(list(limits))
        with self._revocations.claiming():
            try:
                batches = await self._store.claim(
                    limits,
                    self._instance,
                    self._settings.lease_ms,
                    lanes.full,
                    suspect_from,
                )
            except BaseException:
                for partition, at_ms in instants.items():
                    self._agenda.advance(partition, at_ms)
                raise
            self._tell(batches)
            if self._closed:
                await self._hand_back(batches)
                return
            self._start(batches, held_until)
            self._note_left(batches, suspect_from)
            if lanes.freed != freed_before:
                # There was room for more before the answer came.
                self._look_at_held_up()

    def _start(self, batches: Sequence[ClaimBatch], held_until: float) -> None:
        for batch in batches:
            for claim in batch.claims:
                if not self._revocations.revoked(claim.lease):
                    self._attempts.start(claim, held_until)

    def _suspect_from(self, partitions: Sequence[int]) -> int | None:
        """Return the partition that may give a suspect now; None: there is no room for one."""
        if self._attempts.suspects.busy:
            return None
        return next((p for p in self._left_suspects if p in partitions), partitions[0])

    def _note_left(self, batches: Sequence[ClaimBatch], suspect_from: int | None) -> None:
        """Note when to look again, and where something was left that there was no room for."""
        for batch in batches:
            self._note(batch)
            if batch.left_lanes:
                self._held_up.add(batch.partition)
            if not batch.left_suspects or batch.partition == suspect_from:
                self._left_suspects.pop(batch.partition, None)
            if batch.left_suspects:
                self._left_suspects[batch.partition] = None  # behind the others, if it had its turn
        if not self._attempts.suspects.busy:
            self._look_for_a_suspect()

    async def _hand_back(self, batches: Sequence[ClaimBatch]) -> None:
        answers = await self._store.release([claim.lease for batch in batches for claim in batch.claims])
        if handed_back := answers.count(True):
            self._telemetry.attempts_recovered(handed_back, Reason.HANDED_BACK)

    def _tell(self, batches: Sequence[ClaimBatch]) -> None:
        self._telemetry.claimed(sum(len(batch.claims) for batch in batches))
        for batch in batches:
            if batch.poisoned:
                self._telemetry.tasks_poisoned(len(batch.poisoned))
            if batch.expired:
                self._telemetry.tasks_expired(batch.expired)
            if batch.unreadable:
                self._telemetry.tasks_unreadable(len(batch.unreadable))
            for attempt in batch.recovered:
                self._telemetry.attempts_recovered(1, attempt.reason)
                _log.warning(
                    "an attempt runs again: %s",
                    _WHY_AGAIN[attempt.reason],
                    extra=_fields(attempt, "attempt_recovered"),
                )
            for attempt in batch.poisoned:
                _log.error(
                    "a task was given up: too many workers that ran it were lost",
                    extra=_fields(attempt, "task_poisoned"),
                )

    def _note(self, batch: ClaimBatch) -> None:
        next_ms, now_ms = batch.next_due_ms, self._clock.now_ms()
        backlog = next_ms is not None and next_ms <= now_ms
        self._turns.ended(batch.partition, backlog=backlog)
        if next_ms is None:
            return
        if backlog:
            # More than its owner took at once: whoever is here goes on. However long the rest has waited, it
            # had its turn, and goes behind the others.
            self._agenda.advance(batch.partition, now_ms)
        else:
            self.wake(batch.partition, next_ms)


def _fields(attempt: LostAttempt, event: str) -> dict[str, object]:
    """Return what a log line says of a lost attempt."""
    return {
        "event": event,
        "project": attempt.project_id,
        "task": attempt.task_id,
        "attempt": attempt.attempt,
    }
