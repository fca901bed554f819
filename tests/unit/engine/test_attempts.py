"""An attempt gives its slot back, however early it is aborted."""

import asyncio
from unittest.mock import create_autospec

import pytest

from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.task import HttpTarget, RepeatPolicy, RetryPolicy
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.ports import Claim, Clock, Dispatcher

CLAIM = Claim(
    project_id="p",
    task_id="t",
    queue="default",
    token="c:1:1",
    attempt=1,
    retry_count=0,
    repeat_count=0,
    run_start_ms=0,
    schedule_time_ms=0,
    create_time_ms=0,
    timeout_ms=1_000,
    target=HttpTarget("http://target.example/"),
    retry=RetryPolicy(),
    repeat=RepeatPolicy(),
)
FOREVER = float("inf")


@pytest.mark.parametrize("has_started", [False, True])
async def test_an_aborted_attempt_gives_its_slot_back(has_started: bool) -> None:
    sending = asyncio.Event()

    async def send(*_: object) -> Outcome:
        sending.set()
        await asyncio.Event().wait()
        raise AssertionError

    dispatcher = create_autospec(Dispatcher, instance=True)
    dispatcher.send.side_effect = send
    attempts = Attempts(
        dispatcher,
        create_autospec(Reporter, instance=True),
        create_autospec(Clock, instance=True),
        max_in_flight=1,
    )
    attempts.start(CLAIM, FOREVER)
    assert attempts.free_slots == 0
    if has_started:
        await sending.wait()

    assert await attempts.abort(CLAIM.lease)

    assert (attempts.free_slots, attempts.leases()) == (1, [])
    async with asyncio.timeout(30):
        await attempts.drained()
    assert sending.is_set() == has_started
    assert not await attempts.abort(CLAIM.lease)
