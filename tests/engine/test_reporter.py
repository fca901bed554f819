"""The reporter: batches that wait for nothing but the batch before."""

import asyncio
from collections.abc import Sequence

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.engine import backoff
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.ports import Claim, Report
from kuueri_grpc.store.execution import RedisExecutionStore
from tests.engine.parts import running, soon
from tests.store.ports import PROJECT, Ports, report, spec


class Observed(RedisExecutionStore):
    """The real store; `batches` are the sizes of the calls, `outages` how many calls are still to fail.

    `called` is set by every call, which then waits for the `gate`.
    """

    batches: list[int]
    outages: int
    called: asyncio.Event
    gate: asyncio.Event

    @classmethod
    def of(cls, ports: Ports) -> "Observed":
        store = cls(*ports.execution_parts)
        store.batches, store.outages = [], 0
        store.called, store.gate = asyncio.Event(), asyncio.Event()
        store.gate.set()
        return store

    async def report(self, reports: Sequence[Report]) -> list[bool | None]:
        self.batches.append(len(reports))
        self.called.set()
        await self.gate.wait()
        applied = await super().report(reports)
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("the answer was lost")
        return applied


@pytest.fixture
async def claims(ports: Ports) -> Sequence[Claim]:
    await ports.subscribe(*(spec(f"t{n}") for n in range(20)))
    return await ports.claim()


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "_FIRST_S", 0.001)


async def state(ports: Ports, claim: Claim) -> TaskState:
    return (await ports.tasks.get(PROJECT, claim.task_id)).state


async def test_a_report_returns_when_the_store_has_it(ports: Ports, claims: Sequence[Claim]) -> None:
    reporter = Reporter(ports.execution)
    async with running(reporter.run()):
        assert await soon(reporter.report(report(claims[0].lease, Trigger.COMPLETE)))

        assert await state(ports, claims[0]) is TaskState.COMPLETED


async def test_a_stale_one_is_told(ports: Ports, claims: Sequence[Claim]) -> None:
    await ports.tasks.cancel(PROJECT, claims[0].task_id)
    reporter = Reporter(ports.execution)
    async with running(reporter.run()):
        stale, good = await soon(
            asyncio.gather(*(reporter.report(report(c.lease, Trigger.COMPLETE)) for c in claims[:2]))
        )

    assert (stale, good) == (False, True)


async def test_what_comes_during_a_call_goes_with_the_next(ports: Ports, claims: Sequence[Claim]) -> None:
    store = Observed.of(ports)
    reporter = Reporter(store)
    store.gate.clear()
    async with running(reporter.run()):
        first = asyncio.ensure_future(reporter.report(report(claims[0].lease, Trigger.COMPLETE)))
        await soon(store.called.wait())
        rest = [asyncio.ensure_future(reporter.report(report(c.lease, Trigger.COMPLETE))) for c in claims[1:]]
        await asyncio.sleep(0)
        store.gate.set()
        assert all(await soon(asyncio.gather(first, *rest)))

    assert store.batches == [1, 19]


async def test_through_an_outage_reports_wait_and_are_applied_once(
    ports: Ports, claims: Sequence[Claim], caplog: pytest.LogCaptureFixture
) -> None:
    """Even where the store had applied them and only the answer was lost."""
    store = Observed.of(ports)
    store.outages = 3
    reporter = Reporter(store)
    async with running(reporter.run()):
        applied = await soon(
            asyncio.gather(*(reporter.report(report(c.lease, Trigger.RETRY)) for c in claims[:5]))
        )

    assert applied == [True] * 5
    assert store.batches == [5] * 4
    for claim in claims[:5]:
        assert (await ports.tasks.get(PROJECT, claim.task_id)).retry_count == 1
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1  # one outage, one line


async def test_a_report_that_was_withdrawn_is_not_sent(ports: Ports, claims: Sequence[Claim]) -> None:
    reporter = Reporter(ports.execution)
    withdrawn = asyncio.ensure_future(reporter.report(report(claims[0].lease, Trigger.COMPLETE)))
    await asyncio.sleep(0)
    withdrawn.cancel()
    await asyncio.wait([withdrawn])
    async with running(reporter.run()):
        assert await soon(reporter.report(report(claims[1].lease, Trigger.COMPLETE)))

    assert await state(ports, claims[0]) is TaskState.DISPATCHING


async def test_a_report_withdrawn_during_its_call_harms_no_other(
    ports: Ports, claims: Sequence[Claim]
) -> None:
    store = Observed.of(ports)
    reporter = Reporter(store)
    store.gate.clear()
    async with running(reporter.run()):
        both = [asyncio.ensure_future(reporter.report(report(c.lease, Trigger.COMPLETE))) for c in claims[:2]]
        await soon(store.called.wait())
        both[0].cancel()
        store.gate.set()

        assert await soon(both[1])
