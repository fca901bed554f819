"""One timer for all limits of time: each is kept, and none outlives its attempt."""

import asyncio

import pytest

from kuueri_grpc.dispatcher.deadlines import Deadline, Deadlines


async def waits(deadlines: Deadlines, seconds: float, ended: list[float]) -> Deadline:
    deadline = deadlines.start(seconds)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not (deadline.expired and deadline.was_the_cause()):
            raise
        ended.append(seconds)
    finally:
        deadlines.stop(deadline)
    return deadline


@pytest.fixture
async def deadlines() -> Deadlines:
    return Deadlines()


async def test_each_ends_in_its_turn_however_they_were_started(deadlines: Deadlines) -> None:
    ended: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        for seconds in (0.2, 0.05, 0.1, 0.15):
            tasks.create_task(waits(deadlines, seconds, ended))

    assert ended == [0.05, 0.1, 0.15, 0.2]


async def test_one_that_was_stopped_cancels_nothing(deadlines: Deadlines) -> None:
    ended: list[float] = []
    deadlines.stop(deadlines.start(0.01))

    await waits(deadlines, 0.05, ended)  # would be cancelled, as this is the same task

    assert ended == [0.05]


async def test_a_cancellation_from_elsewhere_is_passed_on_though_the_time_is_over(
    deadlines: Deadlines,
) -> None:
    ended: list[float] = []
    task = asyncio.create_task(waits(deadlines, 30, ended))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended


async def test_both_at_once_is_a_cancellation(deadlines: Deadlines) -> None:
    deadline = None

    async def both() -> None:
        nonlocal deadline
        deadline = deadlines.start(30)
        await asyncio.Event().wait()

    task = asyncio.create_task(both())
    await asyncio.sleep(0)
    assert deadline is not None
    deadline.expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not deadline.was_the_cause()
