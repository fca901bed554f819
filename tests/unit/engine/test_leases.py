"""What a renewal that finds leases lost does to the attempts."""

import asyncio
from unittest.mock import create_autospec

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.outcome import answered
from kuueri_grpc.domain.task import HttpTarget, RepeatPolicy, RetryPolicy
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.leases import LeaseKeeper
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.ports import Claim, Clock, Dispatcher, ExecutionStore, Renewal

LEASE_MS = 5_000
CLAIM = Claim(
    project_id="project",
    task_id="task",
    queue="default",
    token="token",
    attempt=1,
    retry_count=0,
    repeat_count=0,
    run_start_ms=0,
    schedule_time_ms=0,
    create_time_ms=0,
    timeout_ms=1_000,
    target=HttpTarget("https://target.example"),
    retry=RetryPolicy(),
    repeat=RepeatPolicy(),
)


class Fixture:
    """One attempt in flight, whose answer and whose report come when a test lets them."""

    def __init__(self) -> None:
        self.sending, self.answered = asyncio.Event(), asyncio.Event()
        self.reporting, self.reported = asyncio.Event(), asyncio.Event()
        dispatcher = create_autospec(Dispatcher, instance=True)
        dispatcher.send.side_effect = self._send
        reporter = create_autospec(Reporter, instance=True)
        reporter.report.side_effect = self._report
        self.store = create_autospec(ExecutionStore, instance=True)
        self.store.renew.return_value = Renewal(held=[], lost=[CLAIM.lease])
        clock = create_autospec(Clock, instance=True)
        clock.now_ms.return_value = 0
        self.attempts = Attempts(dispatcher, reporter, clock, max_in_flight=1)
        self.keeper = LeaseKeeper(self.store, self.attempts, LEASE_MS)
        self.attempts.start(CLAIM, held_until=0)

    async def _send(self, *_: object) -> object:
        self.sending.set()
        await self.answered.wait()
        return answered(200, latency_ms=1)

    async def _report(self, _: object) -> bool:
        self.reporting.set()
        await self.reported.wait()
        return True


@pytest.mark.parametrize("begun", [True, False], ids=["sending", "about-to-begin"])
async def test_an_attempt_whose_lease_is_lost_is_aborted(
    caplog: pytest.LogCaptureFixture, begun: bool
) -> None:
    fixture = Fixture()
    if begun:
        await fixture.sending.wait()
    await fixture.keeper.run_once()
    assert fixture.attempts.free_slots == 1
    await fixture.attempts.drained()
    (line,) = caplog.records
    assert (line.__dict__["event"], line.__dict__["attempt"]) == ("lease_lost", CLAIM.attempt)


async def test_a_lease_that_its_report_has_ended_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The store has the report before this process knows: the lease is gone, as it should be."""
    fixture = Fixture()
    fixture.answered.set()
    await fixture.reporting.wait()
    await fixture.keeper.run_once()
    assert fixture.attempts.in_flight == 1
    fixture.reported.set()
    await fixture.attempts.drained()
    assert caplog.records == []


async def test_a_lease_that_could_not_be_asked_about_is_neither_held_nor_lost() -> None:
    fixture = Fixture()
    fixture.store.renew.return_value = Renewal(held=[], lost=[])
    await fixture.sending.wait()
    with pytest.raises(StoreUnavailable, match="1 leases were not renewed"):
        await fixture.keeper.run_once()
    assert fixture.attempts.leases() == [CLAIM.lease]
    await fixture.attempts.abort_all()
