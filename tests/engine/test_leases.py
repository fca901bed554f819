"""Keeping leases: held while the attempt runs, and no attempt goes on without one."""

import time
from collections.abc import Sequence

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.engine import backoff
from kuueri_grpc.ports import Lease, Renewal
from kuueri_grpc.store.execution import RedisExecutionStore
from tests.engine.parts import Instance, instance, process, running, soon
from tests.store.hearing import hearing
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

LEASE_MS = 60


async def hold(
    ports: Ports,
    here: Instance,
    task_id: str = "a",
    lease_ms: int = LEASE_MS,
    held_until: float = float("inf"),
) -> Lease:
    """Start an attempt whose lease runs out soon for the store; the process knows of it by `held_until`."""
    await ports.subscribe(spec(task_id))
    claim = await ports.take(task_id, lease_ms)
    here.attempts.start(claim, held_until)
    return claim.lease


async def lease_end_ms(ports: Ports) -> int:
    (end_ms,) = (await ports.execution.next_due()).values()
    return end_ms


async def test_the_lease_of_a_long_attempt_is_renewed_again_and_again(ports: Ports) -> None:
    async with instance(ports, lease_ms=LEASE_MS) as here, running(here.keeper.run(), here.reporter.run()):
        await hold(ports, here)
        await here.dispatcher.started()
        ends = {await lease_end_ms(ports)}
        while len(ends) < 4:
            ends.add(await lease_end_ms(ports))
        here.dispatcher.answer("a")
        await soon(here.attempts.drained())

    assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.COMPLETED


async def test_one_call_renews_all_and_lets_them_start_later(ports: Ports) -> None:
    async with instance(ports, lease_ms=HOUR_MS) as here:
        here.dispatcher.connections.clear()
        await ports.subscribe(*(spec(f"t{n}") for n in range(5)))
        held_until = time.monotonic() + LEASE_MS / 1_000
        for claim in await ports.claim(lease_ms=LEASE_MS):
            here.attempts.start(claim, held_until)
        await here.keeper.run_once()
        await ports.until(await ports.now_ms() + LEASE_MS + 1)
        here.dispatcher.connections.set()

        assert {(await here.dispatcher.started()).task_id for _ in range(5)} == {f"t{n}" for n in range(5)}
        assert not await ports.claim(instance="another")


async def test_with_nothing_in_flight_there_is_nothing_to_renew(ports: Ports) -> None:
    async with instance(ports) as here:
        ports.client.refuse("nobody is asked")
        await here.keeper.run_once()


@pytest.mark.parametrize("loss", ["cancelled", "taken by another"])
async def test_a_lost_lease_aborts_its_attempt_and_no_other(
    ports: Ports, loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with instance(ports) as here:
        kept = await hold(ports, here, "kept", lease_ms=HOUR_MS)
        await hold(ports, here, "lost")
        await here.dispatcher.started()
        await here.dispatcher.started()
        if loss == "cancelled":
            await ports.tasks.cancel(PROJECT, "lost")
        else:
            await ports.until(await ports.now_ms() + LEASE_MS + 1)
            assert [claim.task_id for claim in await ports.claim(instance="another")] == ["lost"]

        await here.keeper.run_once()

        assert [delivery.task_id for delivery in here.dispatcher.aborted] == ["lost"]
        assert here.attempts.leases() == [kept]
    assert "a lease was lost; its attempt was aborted" in caplog.text


async def test_a_process_that_comes_back_after_its_lease_does_not_send(ports: Ports) -> None:
    """It was stopped with a claim in hand; meanwhile another has taken the task and ended it."""
    async with instance(ports) as here:
        here.dispatcher.connections.clear()
        await hold(ports, here, held_until=time.monotonic() + LEASE_MS / 1_000)
        await ports.until(await ports.now_ms() + LEASE_MS + 1)
        async with process(ports, "another") as another:
            another.dispatcher.answer_all()
            await another.dispatcher.started()
            await soon(another.attempts.drained())

        here.dispatcher.connections.set()
        await soon(here.attempts.drained())

        assert here.dispatcher.sent == []
    assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.COMPLETED


async def test_a_process_that_dies_is_taken_over_from(ports: Ports) -> None:
    """Its lease runs out, and the same attempt runs elsewhere, without any poller."""
    async with process(ports, "another", lease_ms=HOUR_MS) as another, instance(ports) as here:
        await ports.tasks.subscribe(PROJECT, [], 1)
        await hold_before(ports, here, another)
        delivery = await another.dispatcher.started()

    assert (delivery.task_id, delivery.attempt) == ("a", 1)
    assert await ports.events("a") == [
        *(EventType.SUBSCRIBED, EventType.DISPATCHED, EventType.RECOVERED, EventType.DISPATCHED)
    ]


async def test_one_who_knows_of_nothing_takes_over_from_the_only_holder_of_a_partition(ports: Ports) -> None:
    """It was too late for the task, and sleeps with nothing to do: the lease itself is what it hears of."""
    async with (
        hearing(ports.url, ports.settings, "ear") as ear,
        instance(ports, "another") as another,
        running(another.scheduler.run(), another.reporter.run()),
    ):
        await ports.subscribe(spec("a"))
        await ear.so_far()
        await ports.take("a", LEASE_MS)  # by a holder that is not heard of again
        for signal in await ear.so_far():
            another.switchboard._hand_on(signal)

        delivery = await another.dispatcher.started()

    assert (delivery.task_id, delivery.attempt) == ("a", 1)
    assert (await ports.events("a"))[-2:] == [EventType.RECOVERED, EventType.DISPATCHED]


async def hold_before(ports: Ports, here: Instance, another: Instance) -> None:
    """Let `here` be the one of the two that gets the task."""
    another.attempts.shares._slots = 0
    await hold(ports, here)
    await here.dispatcher.started()
    another.attempts.shares._slots = 10
    another.attempts.stop_waiting()


async def test_an_outage_does_not_abort_what_is_in_flight(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "_FIRST_S", 0.001)

    class Unavailable(RedisExecutionStore):
        outages = 3

        async def renew(self, leases: Sequence[Lease], lease_ms: int) -> Renewal:
            if self.outages:
                self.outages -= 1
                raise StoreUnavailable("not now")
            return await super().renew(leases, lease_ms)

    store = Unavailable(*ports.execution_parts)
    async with (
        instance(ports, lease_ms=LEASE_MS, execution=store) as here,
        running(here.keeper.run(), here.reporter.run()),
    ):
        await hold(ports, here, lease_ms=HOUR_MS)
        await here.dispatcher.started()
        await ports.until(await ports.now_ms() + 4 * LEASE_MS)
        assert here.dispatcher.aborted == []
        here.dispatcher.answer("a")
        await soon(here.attempts.drained())

    assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.COMPLETED
