"""The order in which an instance ends its work."""

import asyncio
from unittest.mock import create_autospec

import pytest
from prometheus_client import CollectorRegistry

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine import drain
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.drain import Drain
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import ExecutionStore, Lease
from kuueri_grpc.telemetry.metrics import MetricsTelemetry

HANDED_BACK = {"reason": "HANDED_BACK"}
LEASES = [Lease("project", f"task-{number}", "token") for number in range(3)]


class Fixture:
    def __init__(self) -> None:
        self.scheduler = create_autospec(Scheduler, instance=True)
        self.watches = create_autospec(WatchHub, instance=True)
        self.attempts = create_autospec(Attempts, instance=True)
        self.store = create_autospec(ExecutionStore, instance=True)
        self.registry = CollectorRegistry()
        telemetry = MetricsTelemetry(self.registry)
        self.drain = Drain(self.scheduler, self.watches, self.attempts, self.store, telemetry)

    def counted(self) -> tuple[float | None, float | None]:
        """Return how many attempts were handed back, and how many could not be, as the metrics have it."""
        handed_back = self.registry.get_sample_value("kuueri_attempts_recovered_total", HANDED_BACK)
        return handed_back, self.registry.get_sample_value("kuueri_attempts_left_total")


async def never(*_: object) -> None:
    await asyncio.Event().wait()


class Drained:
    """`Attempts.drained` that never comes in the grace time, and then when `reported` is set."""

    def __init__(self, steps: list[str]) -> None:
        self.reported = asyncio.Event()
        self._steps = steps
        self._asked = 0

    async def drained(self) -> None:
        self._asked += 1
        if self._asked == 1:
            await never()
        await self.reported.wait()
        self._steps.append("reported")


async def test_first_of_all_nothing_more_is_taken_on() -> None:
    fixture = Fixture()
    fixture.drain.begin()
    fixture.scheduler.stop.assert_called_once_with()
    fixture.watches.drain.assert_called_once_with()


async def test_attempts_that_end_in_time_are_left_alone() -> None:
    fixture = Fixture()
    await fixture.drain.finish(600)
    fixture.attempts.drained.assert_awaited_once_with()
    fixture.attempts.abort_unanswered.assert_not_called()
    fixture.store.release.assert_not_called()


async def test_attempts_of_a_claim_that_is_under_way_are_waited_for() -> None:
    fixture = Fixture()
    claimed = asyncio.Event()
    fixture.scheduler.stopped.side_effect = claimed.wait
    finishing = asyncio.create_task(fixture.drain.finish(600))
    await asyncio.sleep(0)
    fixture.attempts.drained.assert_not_called()
    claimed.set()
    await finishing
    fixture.attempts.drained.assert_awaited_once_with()


async def test_those_that_do_not_are_aborted_and_then_handed_back(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()
    drained = Drained([])
    fixture.attempts.drained.side_effect = drained.drained
    drained.reported.set()
    fixture.attempts.abort_unanswered.return_value = LEASES
    fixture.attempts.abort_all.return_value = []
    fixture.store.release.return_value = [True, True, False]
    await fixture.drain.finish(0)
    fixture.store.release.assert_awaited_once_with(LEASES)
    assert fixture.counted() == (2, 0)
    assert "2 attempts did not end in time" in caplog.text
    assert "could not be handed back" not in caplog.text


async def test_what_is_known_is_reported_before_the_rest_is_handed_back() -> None:
    fixture = Fixture()
    steps: list[str] = []
    drained = Drained(steps)
    fixture.attempts.drained.side_effect = drained.drained

    def abort_unanswered() -> list[Lease]:
        steps.append("aborted")
        asyncio.get_running_loop().call_soon(drained.reported.set)
        return LEASES

    def release(_: object) -> list[bool]:
        steps.append("released")
        return [True] * 3

    fixture.attempts.abort_unanswered.side_effect = abort_unanswered
    fixture.attempts.abort_all.return_value = []
    fixture.store.release.side_effect = release
    await fixture.drain.finish(0)
    assert steps == ["aborted", "reported", "released"]


async def test_outcomes_that_no_store_takes_are_no_obstacle(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_HAND_BACK_S", 0.01)
    fixture = Fixture()
    fixture.attempts.drained.side_effect = never
    fixture.attempts.abort_unanswered.return_value = LEASES[:2]
    fixture.attempts.abort_all.return_value = LEASES[2:]
    fixture.store.release.return_value = [True, None]
    await fixture.drain.finish(0)
    assert fixture.counted() == (1, 2)
    assert "1 attempts did not end in time" in caplog.text
    assert "2 attempts were aborted and could not be handed back or reported" in caplog.text


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), never], ids=["refuses", "hangs"])
async def test_a_store_that_does_not_answer_is_no_obstacle(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, failure: object
) -> None:
    monkeypatch.setattr(drain, "_HAND_BACK_S", 0.01)
    fixture = Fixture()
    fixture.attempts.drained.side_effect = never
    fixture.attempts.abort_unanswered.return_value = LEASES
    fixture.attempts.abort_all.return_value = []
    fixture.store.release.side_effect = failure
    await fixture.drain.finish(0)
    assert "taken again when their leases have run out" in caplog.text
