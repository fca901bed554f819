"""Outcomes that a part of the store does not take at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from unittest.mock import create_autospec

import pytest

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.outcome import answered
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.engine import reporter as module
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.ports import ExecutionStore, Lease, Report


def outcome_of(task_id: str) -> Report:
    return Report(Lease("project", task_id, "token"), answered(200, 1), Decision(Trigger.COMPLETE))


class Store:
    """Takes what is not of a task that it is to leave."""

    def __init__(self) -> None:
        self.leaves: set[str] = set()
        self.asked = asyncio.Event()
        self.port = create_autospec(ExecutionStore, instance=True)
        self.port.report.side_effect = self._report

    async def _report(self, reports: Sequence[Report]) -> list[bool | None]:
        answers = [None if report.lease.task_id in self.leaves else True for report in reports]
        if None in answers:
            self.asked.set()
        return answers


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def reporter(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reporter]:
    monkeypatch.setattr(module, "_AGAIN_S", 0.001)
    reporter = Reporter(store.port)
    running = asyncio.create_task(reporter.run())
    yield reporter
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_is_not_taken_is_reported_again_and_holds_up_nothing(
    store: Store, reporter: Reporter
) -> None:
    store.leaves = {"left"}
    left = asyncio.create_task(reporter.report(outcome_of("left")))
    await store.asked.wait()

    assert await reporter.report(outcome_of("taken"))

    store.asked.clear()
    await store.asked.wait()
    assert not left.done()
    store.leaves = set()
    assert await left


async def test_what_is_withdrawn_is_not_reported_again(store: Store, reporter: Reporter) -> None:
    store.leaves = {"left"}
    left = asyncio.create_task(reporter.report(outcome_of("left")))
    await store.asked.wait()

    left.cancel()
    await asyncio.gather(left, return_exceptions=True)

    store.leaves = set()
    store.port.report.reset_mock()
    assert await reporter.report(outcome_of("taken"))
    asked = [report.lease.task_id for call in store.port.report.await_args_list for report in call.args[0]]
    assert asked == ["taken"]


async def test_an_outage_is_outlasted(store: Store, reporter: Reporter) -> None:
    store.port.report.side_effect = [StoreUnavailable("gone"), StoreUnavailable("gone"), [True]]

    assert await reporter.report(outcome_of("task"))
