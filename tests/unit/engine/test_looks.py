"""When a scheduler looks at a partition that others look at first."""

import asyncio
from collections.abc import Mapping, Sequence
from unittest.mock import MagicMock, create_autospec

from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.health import Health
from kuueri_grpc.engine.lanes import Lanes
from kuueri_grpc.engine.ownership import Ownership
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.shares import Shares
from kuueri_grpc.engine.suspects import Suspects
from kuueri_grpc.ports import ClaimBatch, Clock, ExecutionStore

NOW_MS = 1_000_000
OWNED, SECOND = 0, 1


class Looks:
    """A scheduler on a store that answers as told, and on a clock that a test moves."""

    def __init__(self, *answers: int | None) -> None:
        self.partitions: list[list[int]] = []
        self._answers = list(answers)
        store = create_autospec(ExecutionStore, instance=True)
        store.claim.side_effect = self._claim
        self.clock = create_autospec(Clock, instance=True)
        self.at(NOW_MS)
        lanes = Lanes(10)
        self.attempts = create_autospec(
            Attempts,
            instance=True,
            free_slots=10,
            lanes=lanes,
            shares=Shares(10, 1 << 20, lanes),
            suspects=Suspects(),
        )
        revocations = create_autospec(Revocations, instance=True)
        revocations.claiming = MagicMock()
        settings = EngineSettings(linger_ms=0)
        self.scheduler = Scheduler(store, self.attempts, revocations, self.clock, settings, "me", Health())
        self.scheduler.share(Ownership([0, 1]))

    def at(self, now_ms: int) -> None:
        self.clock.now_ms.return_value = now_ms

    async def _claim(self, limits: Mapping[int, int], *_: object) -> Sequence[ClaimBatch]:
        self.partitions.append(list(limits))
        next_due_ms = self._answers.pop(0) if self._answers else None
        return [ClaimBatch(partition, [], next_due_ms) for partition in limits]

    async def once(self) -> bool:
        """Let the scheduler look if there is reason to; return whether it did."""
        before = len(self.partitions)
        turn = asyncio.create_task(self.scheduler.run_once())
        # Enough turns of the event loop for a claim that answers at once.
        for _ in range(10):
            await asyncio.sleep(0)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        return len(self.partitions) > before


async def test_the_owner_looks_at_once_and_the_next_one_later() -> None:
    looks = Looks()
    looks.scheduler.wake(OWNED, NOW_MS)
    looks.scheduler.wake(SECOND, NOW_MS)
    assert await looks.once()
    assert not await looks.once()
    looks.at(NOW_MS + 20)
    assert await looks.once()
    assert looks.partitions == [[OWNED], [SECOND]]


async def test_a_backlog_is_taken_from_without_waiting_for_the_owner() -> None:
    looks = Looks(NOW_MS, NOW_MS + 20)
    looks.scheduler.wake(SECOND, NOW_MS - 20)
    assert await looks.once()
    assert await looks.once(), "the answer said that more is due"


async def test_without_a_backlog_the_next_look_waits_for_the_owner_again() -> None:
    looks = Looks(NOW_MS + 1_000)
    looks.scheduler.wake(SECOND, NOW_MS - 20)
    assert await looks.once()
    looks.at(NOW_MS + 1_000)
    assert not await looks.once()
    looks.at(NOW_MS + 1_020)
    assert await looks.once()


async def test_a_slot_that_was_freed_and_taken_again_is_no_reason_to_look() -> None:
    looks = Looks()
    looks.attempts.free_slots = 0
    looks.scheduler.wake(OWNED, NOW_MS)
    assert not await looks.once()


async def test_after_stop_nothing_is_looked_at() -> None:
    looks = Looks()
    looks.scheduler.wake(OWNED, NOW_MS)
    looks.scheduler.stop()
    assert not await looks.once()
    await looks.scheduler.stopped()
