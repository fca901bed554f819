"""Attempts in flight: what is sent, what is reported, and what an abort leaves behind."""

import asyncio

import pytest

from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Backoff, RepeatPolicy, RetryPolicy, TaskSpec
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.ports import Claim, Lease, ResourcesLacking
from tests.engine.parts import Instance, instance, running, soon
from tests.store.ports import ERROR, PROJECT, SUCCESS, Ports, spec

#: Far in the future on the monotonic clock.
FOREVER = float("inf")


async def start(ports: Ports, here: Instance, spec: TaskSpec, held_until: float = FOREVER) -> Claim:
    await ports.subscribe(spec)
    claim = await ports.take(spec.task_id)
    here.attempts.start(claim, held_until)
    return claim


async def ended(here: Instance) -> None:
    await soon(here.attempts.drained())


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([SUCCESS], TaskState.COMPLETED),
        ([ERROR], TaskState.RETRYING),
        ([ERROR, ERROR], TaskState.RETRYING),
        ([ERROR, ERROR, ERROR], TaskState.FAILED),
        ([ERROR, SUCCESS], TaskState.COMPLETED),
        ([answered(404, 1)], TaskState.FAILED),
        ([Outcome(1, reason=Reason.TIMEOUT)], TaskState.RETRYING),
    ],
)
async def test_an_outcome_is_reported_with_what_follows(
    ports: Ports, outcomes: list[Outcome], state: TaskState
) -> None:
    retry = RetryPolicy(max_retries=2, backoff=Backoff(60_000), retryable_status_codes=(500,))
    await ports.subscribe(spec("a", retry=retry))
    async with instance(ports) as here, running(here.reporter.run()):
        for outcome in outcomes:
            await ports.tasks.run(PROJECT, "a")
            here.attempts.start(await ports.take("a"), FOREVER)
            await here.dispatcher.started()
            here.dispatcher.answer("a", outcome)
            await ended(here)

    task = await ports.tasks.get(PROJECT, "a")
    assert task.state is state
    assert task.attempt_count == len(outcomes)
    assert task.last_attempt is not None
    assert task.last_attempt.latency_ms == outcomes[-1].latency_ms


async def test_a_delivery_tells_where_the_task_stands(ports: Ports) -> None:
    retry, repeat = RetryPolicy(max_retries=3), RepeatPolicy(max_repeats=9)
    (task,) = await ports.subscribe(spec("a", retry=retry, repeat=repeat, attempt_timeout_ms=77))
    async with instance(ports) as here, running(here.reporter.run()):
        for outcome in (ERROR, SUCCESS, ERROR):
            await ports.tasks.run(PROJECT, "a")
            here.attempts.start(await ports.take("a"), FOREVER)
            await here.dispatcher.started()
            here.dispatcher.answer("a", outcome)
            await ended(here)

        stands = [(d.attempt, d.retry_count, d.repeat_count) for d in here.dispatcher.sent]
        assert stands == [(1, 0, 0), (2, 1, 0), (3, 0, 1)]
        last = here.dispatcher.sent[-1]
        assert (last.project_id, last.task_id, last.target) == (PROJECT, "a", task.spec.target)
        assert (last.retry_limit, last.repeat_limit, last.timeout_ms) == (3, 9, 77)
        assert last.signing_secrets == ("whsec_first",)


async def test_a_lease_that_has_run_out_starts_nothing(ports: Ports) -> None:
    """As after the process was stopped for long: the task may be somebody else's by now."""
    async with instance(ports) as here, running(here.reporter.run()):
        await start(ports, here, spec("a"), held_until=0.0)
        await ended(here)

        assert here.dispatcher.sent == []
        assert len(here.dispatcher.not_started) == 1
    assert (await ports.events("a"))[-1] is EventType.DISPATCHED


async def test_a_lease_that_runs_out_while_waiting_for_a_connection_starts_nothing(ports: Ports) -> None:
    async with instance(ports) as here, running(here.reporter.run()):
        here.dispatcher.connections.clear()
        claim = await start(ports, here, spec("a"))
        here.attempts.extend(claim.lease, 0.0)
        here.dispatcher.connections.set()
        await ended(here)

        assert here.dispatcher.sent == []


async def test_a_lease_that_was_renewed_meanwhile_starts(ports: Ports) -> None:
    async with instance(ports) as here, running(here.reporter.run()):
        here.dispatcher.connections.clear()
        claim = await start(ports, here, spec("a"), held_until=0.0)
        here.attempts.extend(claim.lease, FOREVER)
        here.dispatcher.connections.set()

        assert (await here.dispatcher.started()).task_id == "a"


class TestAbort:
    @pytest.mark.parametrize("steps", range(4))
    async def test_it_frees_the_slot_however_early_it_comes(self, ports: Ports, steps: int) -> None:
        async with instance(ports, max_in_flight=1) as here:
            claim = await start(ports, here, spec("a"))
            for _ in range(steps):
                await asyncio.sleep(0)

            assert await here.attempts.abort(claim.lease)

            assert here.attempts.leases() == []
            assert here.attempts.free_slots == 1
            await ended(here)
            assert len(here.dispatcher.aborted) == len(here.dispatcher.sent)

    async def test_what_is_not_in_flight(self, ports: Ports) -> None:
        async with instance(ports) as here:
            assert not await here.attempts.abort(Lease(PROJECT, "a", "token"))

    async def test_the_outcome_of_an_aborted_attempt_is_not_reported(self, ports: Ports) -> None:
        async with instance(ports) as here:
            claim = await start(ports, here, spec("a"))
            await here.dispatcher.started()
            here.dispatcher.answer("a")
            await asyncio.sleep(0)  # the answer has come, and waits for the reporter

            await here.attempts.abort(claim.lease)

            await ports.subscribe(spec("fence"))
            async with running(here.reporter.run()):
                here.attempts.start(await ports.take("fence"), FOREVER)
                await here.dispatcher.started()
                here.dispatcher.answer("fence")
                await ended(here)
        assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.DISPATCHING

    async def test_all_of_them(self, ports: Ports) -> None:
        async with instance(ports) as here:
            for n in range(3):
                await start(ports, here, spec(f"t{n}"))
            await here.attempts.abort_all()

            assert here.attempts.leases() == []
            await ended(here)


async def test_an_attempt_that_breaks_down_frees_its_slot_and_harms_no_other(
    ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    async with instance(ports) as here, running(here.reporter.run()):
        await start(ports, here, spec("bad"))
        await start(ports, here, spec("good"))
        await here.dispatcher.started()
        await here.dispatcher.started()
        here.dispatcher.break_down("bad", RuntimeError("a bug"))
        here.dispatcher.answer("good")
        await ended(here)

    assert "an attempt broke down" in caplog.text
    assert (await ports.tasks.get(PROJECT, "good")).state is TaskState.COMPLETED
    # Nothing is made up about it: its lease runs out, and it is taken again.
    assert (await ports.tasks.get(PROJECT, "bad")).state is TaskState.DISPATCHING


async def test_slots_are_counted(ports: Ports) -> None:
    async with instance(ports, max_in_flight=2) as here, running(here.reporter.run()):
        assert here.attempts.free_slots == 2
        await start(ports, here, spec("a"))
        await start(ports, here, spec("b"))
        assert here.attempts.free_slots == 0
        await soon(here.attempts.busy())

        await here.dispatcher.started()
        here.dispatcher.answer("a")
        await soon(here.attempts.slot_freed())

        assert here.attempts.free_slots == 1
        assert [lease.task_id for lease in here.attempts.leases()] == ["b"]


async def test_a_slot_that_was_freed_and_taken_again_is_not_free(ports: Ports) -> None:
    async with instance(ports, max_in_flight=1) as here, running(here.reporter.run()):
        await start(ports, here, spec("a"))
        await here.dispatcher.started()
        here.dispatcher.answer("a")
        await ended(here)
        await start(ports, here, spec("b"))

        waiting = asyncio.ensure_future(here.attempts.slot_freed())
        await here.dispatcher.started()
        assert not waiting.done()

        here.dispatcher.answer("b")
        await soon(waiting)
        assert here.attempts.free_slots == 1


async def test_an_attempt_that_could_not_be_sent_is_given_back_and_uses_no_retry(ports: Ports) -> None:
    async with instance(ports) as here, running(here.reporter.run()):
        await start(ports, here, spec("a"))
        await here.dispatcher.started()
        here.dispatcher.break_down("a", ResourcesLacking("EMFILE"))
        await ended(here)

    task = await ports.tasks.get(PROJECT, "a")
    assert (task.state, task.retry_count) == (TaskState.SCHEDULED, 0)
    again = await ports.take("a")
    assert (again.attempt, again.retry_count) == (1, 0)
    events = (await ports.tasks.timeline(PROJECT, "a", 0, 10)).events
    assert [(event.type, event.reason) for event in events[1:3]] == [
        (EventType.DISPATCHED, None),
        (EventType.RECOVERED, Reason.HANDED_BACK),
    ]
