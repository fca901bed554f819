"""The loop that takes due tasks and starts their attempts."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.engine.agenda import Agenda
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.backoff import TRANSIENT, Backoff
from kuueri_grpc.engine.claimed import tell_claimed
from kuueri_grpc.engine.health import Health, Part
from kuueri_grpc.engine.left import LeftTasks
from kuueri_grpc.engine.ownership import Ownership
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.shares import portion
from kuueri_grpc.engine.sizes import Sizes
from kuueri_grpc.engine.turns import Turns
from kuueri_grpc.ports import NO_TELEMETRY, ClaimBatch, Clock, ExecutionStore, Room, Telemetry

#: With all slots taken, how long after it was due a partition is looked at for what needs no slot.
_LOOK_WITHOUT_ROOM_MS = 50


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
        #: What needs no room: ends of leases and start deadlines.
        self._chores = Agenda()
        self._turns = Turns(settings.claim_batch)
        self._sizes = Sizes()
        #: Due tasks that there was no room for.
        self._left = LeftTasks()
        attempts.lanes.on_room(self._look_at_lanes)
        attempts.shares.on_change(self._look_at_shares_soon)
        attempts.suspects.on_room(self._look_for_a_suspect)
        self._share_timer: asyncio.TimerHandle | None = None
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
        """Something in `partition` is due at `at_ms`, or expires."""
        instant = at_ms + self._delay_ms(partition)
        # Without a free slot it is looked at, too: it may expire. But not for each task that is due.
        if self._chores.advance(partition, max(instant, self._clock.now_ms() + _LOOK_WITHOUT_ROOM_MS)):
            self._attempts.stop_waiting()
        if self._agenda.advance(partition, instant):
            self._woken.set()

    def _look_now(self, partitions: Iterable[int]) -> None:
        now_ms = self._clock.now_ms()
        for partition in partitions:
            self._agenda.advance(partition, now_ms)
            self._woken.set()

    def _look_at_lanes(self) -> None:
        self._look_now(self._left.in_lanes())

    def _look_at_shares_soon(self) -> None:
        """One attempt that ended is seldom alone: a slightly larger claim costs the store much less."""
        if self._left.projects and self._share_timer is None:
            loop = asyncio.get_running_loop()
            self._share_timer = loop.call_later(self._settings.linger_ms / 1_000, self._look_at_shares)

    def _look_at_shares(self) -> None:
        self._share_timer = None
        shares = self._attempts.shares
        self._look_now(self._left.with_a_share(lambda project_id: shares.of(project_id) > 0))

    def _look_for_a_suspect(self) -> None:
        partition = self._left.first_suspect()
        if partition is not None:
            self._look_now([partition])

    async def look_again(self) -> None:
        """Learn the next instant of every partition anew: signals may have been missed."""
        self._left.forget()
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
            await self._outwait()
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

    async def _outwait(self) -> None:
        """Return when there may be a free slot, or what needs none was done."""
        next_ms = self._chores.next_ms()
        wait_s = None if next_ms is None else max(0, next_ms - self._clock.now_ms()) / 1_000
        try:
            async with asyncio.timeout(wait_s):
                await self._attempts.slot_freed()
        except TimeoutError:
            if not self._health.is_in_order(Part.STORE):
                await self._outlast()
            elif due := self._chores.due(self._clock.now_ms()):
                async with self._claiming:
                    await self._claim_in(dict.fromkeys(due, 0))
            return
        # One freed slot is seldom alone: a slightly larger claim costs the store much less.
        await asyncio.sleep(self._settings.linger_ms / 1_000)

    async def _sleep(self, wait_ms: int | None) -> None:
        timeout = None if wait_ms is None else wait_ms / 1_000
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _claim(self, partitions: Sequence[int]) -> None:
        asked = self._sizes.put_off(partitions)
        await self._claim_in(self._turns.limits(asked, portion(self._attempts.free_slots)))

    async def _claim_in(self, limits: dict[int, int]) -> None:
        held_until = time.monotonic() + self._settings.lease_ms / 1_000
        instants, chores = self._agenda.take(limits), self._chores.take(limits)
        lanes = self._attempts.lanes
        freed_before = lanes.freed
        room = self._room(limits)
        with self._revocations.claiming():
            try:
                batches = await self._store.claim(limits, self._instance, self._settings.lease_ms, room)
            except BaseException:
                for partition, at_ms in instants.items():
                    self._agenda.advance(partition, at_ms)
                for partition, at_ms in chores.items():
                    self._chores.advance(partition, at_ms)
                raise
            tell_claimed(batches, self._telemetry)
            if self._closed:
                await self._hand_back(batches)
                return
            self._start(batches, held_until)
            for batch in batches:
                self._note(batch, instants.get(batch.partition), room)
            if not self._attempts.suspects.busy:
                self._look_for_a_suspect()
            if lanes.freed != freed_before:
                # There was room for more before the answer came.
                self._look_at_lanes()
            self._look_at_shares_soon()

    def _room(self, limits: Mapping[int, int]) -> Room:
        """Return what there is room for in a claim."""
        partitions, shares = list(limits), self._attempts.shares
        suspect_from = None if self._attempts.suspects.busy else self._left.suspect_from(partitions)
        sizes, larger_from = self._sizes.parts(partitions, portion(shares.free.size))
        return Room(
            full=self._attempts.lanes.full,
            suspect_from=suspect_from,
            shares=shares.below(max(limits.values())),
            share=shares.of_any_other(),
            sizes=sizes,
            larger_from=larger_from,
            passed=self._left.passed(partitions, suspect_from),
        )

    def _start(self, batches: Sequence[ClaimBatch], held_until: float) -> None:
        for batch in batches:
            for claim in batch.claims:
                if not self._revocations.revoked(claim.lease):
                    self._attempts.start(claim, held_until)

    async def _hand_back(self, batches: Sequence[ClaimBatch]) -> None:
        answers = await self._store.release([claim.lease for batch in batches for claim in batch.claims])
        if handed_back := answers.count(True):
            self._telemetry.attempts_recovered(handed_back, Reason.HANDED_BACK)

    def _note(self, batch: ClaimBatch, instant: int | None, room: Room) -> None:
        """Note what a claim has left, and when to look again. `instant`: when it was to look this time."""
        partition, next_ms, now_ms = batch.partition, batch.next_due_ms, self._clock.now_ms()
        self._left.note(
            batch, began_at=room.passed.get(partition), gave_suspects=partition == room.suspect_from
        )
        self._sizes.ended(partition, left=batch.left_bytes)
        if batch.next_chore_ms is not None:
            self._chores.advance(partition, batch.next_chore_ms + self._delay_ms(partition))
        backlog = next_ms is not None and next_ms <= now_ms
        self._turns.ended(partition, backlog=backlog)
        if next_ms is None:
            return
        if not backlog:
            self.wake(partition, next_ms)
        elif batch.left_bytes and not batch.claims and instant is not None:
            self._agenda.advance(partition, instant)  # it had no turn
        else:
            # More than its owner took at once: whoever is here goes on. However long the rest has waited, it
            # had its turn, and goes behind the others.
            self._agenda.advance(partition, now_ms)
