"""What comes in while a claim is under way is not lost."""

import asyncio
from collections.abc import Mapping
from unittest.mock import create_autospec

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine.agenda import Agenda
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.health import Health, Part
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.ports import ClaimBatch, Clock, Dispatcher, ExecutionStore

NOW_MS = 1_000_000


def test_take_strikes_out_and_what_comes_in_afterwards_is_kept() -> None:
    agenda = Agenda()
    agenda.advance(1, 10)
    agenda.advance(2, 20)

    assert agenda.take(agenda.due(10)) == {1: 10}
    assert agenda.next_ms() == 20
    assert agenda.advance(1, 30)
    assert agenda.advance(1, 15)
    assert not agenda.advance(1, 40)
    assert agenda.next_ms() == 15


@pytest.mark.parametrize("error", [None, StoreUnavailable("gone")], ids=["empty", "failed"])
async def test_a_wake_up_that_overtakes_the_answer_of_a_claim_is_acted_upon(
    error: StoreUnavailable | None,
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    looks: list[list[int]] = []

    async def claim(limits: Mapping[int, int], *_: object) -> list[ClaimBatch]:
        looks.append(list(limits))
        asked.set()
        if len(looks) == 1:
            await answer.wait()
            if error:
                raise error
        return [ClaimBatch(partition, [], None) for partition in limits]

    store = create_autospec(ExecutionStore, instance=True)
    store.claim.side_effect = claim
    clock = create_autospec(Clock, instance=True)
    clock.now_ms.return_value = NOW_MS
    attempts = Attempts(
        create_autospec(Dispatcher, instance=True),
        Reporter(store),
        clock,
        max_in_flight=10,
        max_bytes=1 << 20,
    )
    revocations = create_autospec(Revocations, instance=True)
    health = Health()

    async def look_at_store() -> None:
        await health.doubts(Part.STORE).wait()
        health.mend(Part.STORE)

    scheduler = Scheduler(store, attempts, revocations, clock, EngineSettings(regain_ms=0), "me", health)
    looking = asyncio.create_task(look_at_store())
    scheduler.wake(7, NOW_MS)
    running = asyncio.create_task(scheduler.run())

    await asked.wait()
    asked.clear()
    # The store answered "nothing waits" before this task came; the signal is here before that answer.
    scheduler.wake(7, NOW_MS)
    answer.set()

    async with asyncio.timeout(30):
        await asked.wait()
    assert looks == [[7], [7]]
    scheduler.stop()
    looking.cancel()
    async with asyncio.timeout(30):
        await running
