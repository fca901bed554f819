"""Cancel holds: no attempt starts after Cancel answered, whichever process has the task."""

import asyncio
import time

import pytest

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Task
from kuueri_grpc.ports import Cancelled, Lease, Revoke, Revoked
from tests.engine.parts import Instance, SlowAnswers, instance, process, running, soon
from tests.store.hearing import hearing
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

LEASE_MS = 60


async def in_flight(ports: Ports, here: Instance, task_id: str = "a") -> None:
    """Have a running instance send a task."""
    await ports.subscribe(spec(task_id))
    assert (await here.dispatcher.started()).task_id == task_id


def aborted(here: Instance) -> list[str]:
    return [delivery.task_id for delivery in here.dispatcher.aborted]


class TestHere:
    async def test_a_waiting_task_never_starts(self, ports: Ports) -> None:
        async with process(ports) as here:
            await ports.subscribe(spec("a"))
            task = await soon(here.commands.cancel(PROJECT, "a"))

            assert task.state is TaskState.CANCELED
            sent = list(here.dispatcher.sent)
            await in_flight(ports, here, "fence")
            assert [delivery.task_id for delivery in here.dispatcher.sent] == [
                *(delivery.task_id for delivery in sent),
                "fence",
            ]

    async def test_an_attempt_in_flight_is_aborted_when_cancel_returns(self, ports: Ports) -> None:
        async with process(ports) as here:
            await in_flight(ports, here)

            await soon(here.commands.cancel(PROJECT, "a"))

            assert aborted(here) == ["a"]
            assert here.attempts.leases() == []

    async def test_an_attempt_that_waits_for_a_connection_is_never_sent(self, ports: Ports) -> None:
        async with process(ports) as here:
            here.dispatcher.connections.clear()
            await ports.subscribe(spec("a"))
            await soon(here.attempts.busy())

            await soon(here.commands.cancel(PROJECT, "a"))
            here.dispatcher.connections.set()

            await in_flight(ports, here, "fence")
            assert [delivery.task_id for delivery in here.dispatcher.sent] == ["fence"]

    async def test_while_the_answer_of_a_claim_is_under_way(self, ports: Ports) -> None:
        """The store has given the task to this process, which does not know of it yet."""
        store = SlowAnswers.of(ports)
        async with process(ports, execution=store) as here:
            await ports.subscribe(spec("a"), spec("b"))
            await soon(store.claimed.get())

            await soon(here.commands.cancel(PROJECT, "a"))
            store.gate.set()

            assert (await here.dispatcher.started()).task_id == "b"
            assert [delivery.task_id for delivery in here.dispatcher.sent] == ["b"]
            assert [lease.task_id for lease in here.attempts.leases()] == ["b"]

    async def test_what_was_revoked_is_forgotten_with_the_claim(self, ports: Ports) -> None:
        async with instance(ports) as here:
            lease = Lease(PROJECT, "a", "token")
            with here.revocations.claiming():
                await here.revocations.stop_here(lease)
                assert here.revocations.revoked(lease)

            with here.revocations.claiming():
                assert not here.revocations.revoked(lease)

    async def test_two_cancels_at_once_both_wait(self, ports: Ports) -> None:
        async with process(ports) as here:
            await in_flight(ports, here)

            tasks = await soon(asyncio.gather(*(here.commands.cancel(PROJECT, "a") for _ in range(2))))

            assert [task.state for task in tasks] == [TaskState.CANCELED] * 2
            assert aborted(here) == ["a"]


class TestElsewhere:
    async def test_cancel_returns_when_the_holder_has_aborted(self, ports: Ports) -> None:
        async with process(ports, "holder") as holder, process(ports, "here", max_in_flight=0) as here:
            await in_flight(ports, holder)

            await soon(here.commands.cancel(PROJECT, "a"))

            assert aborted(holder) == ["a"]
            assert holder.attempts.leases() == []

    async def test_cancel_waits_for_the_holder_s_word(self, ports: Ports) -> None:
        """The holder's lease has an hour to go: nothing but its answer can end the wait."""
        async with hearing(ports.url, ports.settings, "holder") as holder:
            await ports.subscribe(spec("a"))
            (claim,) = await ports.claim(instance="holder")
            await holder.so_far()
            async with process(ports, "here", max_in_flight=0) as here:
                cancelling = asyncio.ensure_future(here.commands.cancel(PROJECT, "a"))
                revoke = await holder.next()
                assert revoke == Revoke(claim.lease, "here")
                assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.CANCELED
                assert not cancelling.done()

                # Somebody else's word is not the holder's.
                other = Lease(PROJECT, "a", "another-token")
                await holder.bus.send_revoked("here", Revoked(other))
                await here.bus.follow(PROJECT, "fence")
                assert not cancelling.done()

                await holder.bus.send_revoked("here", Revoked(claim.lease))
                assert (await soon(cancelling)).state is TaskState.CANCELED

    async def test_a_holder_that_is_dead_is_waited_for_as_long_as_its_lease(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        (claim,) = await ports.claim(instance="dead", lease_ms=LEASE_MS)
        lease_end_ms = (await ports.execution.next_due()).popitem()[1]
        async with process(ports, "here", max_in_flight=0) as here:
            await soon(here.commands.cancel(PROJECT, "a"))

        assert claim.task_id == "a"
        assert await ports.now_ms() >= lease_end_ms

    async def test_a_repeated_cancel_waits_as_the_first_did(self, ports: Ports) -> None:
        """The client whose call was cut off calls again: it may not be told sooner."""
        await ports.subscribe(spec("a"))
        (claim,) = await ports.claim(instance="dead", lease_ms=LEASE_MS)
        lease_end_ms = (await ports.execution.next_due()).popitem()[1]
        async with process(ports, "here", max_in_flight=0) as here:
            first = asyncio.ensure_future(here.commands.cancel(PROJECT, "a"))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])

            await soon(here.commands.cancel(PROJECT, "a"))

        assert claim.task_id == "a"
        assert await ports.now_ms() >= lease_end_ms

    async def test_two_who_wait_for_one_holder_are_both_told(self, ports: Ports) -> None:
        async with hearing(ports.url, ports.settings, "holder") as holder:
            await ports.subscribe(spec("a"))
            (claim,) = await ports.claim(instance="holder")
            await holder.so_far()
            async with process(ports, "here", max_in_flight=0) as here:
                first = asyncio.ensure_future(here.commands.cancel(PROJECT, "a"))
                await holder.next()
                second = asyncio.ensure_future(here.commands.cancel(PROJECT, "a"))
                await holder.next()
                # One of the two goes away; the other still waits.
                first.cancel()
                await asyncio.wait([first])

                await holder.bus.send_revoked("here", Revoked(claim.lease))

                assert (await soon(second)).state is TaskState.CANCELED

    async def test_a_holder_whose_claim_s_answer_is_under_way_does_not_send(self, ports: Ports) -> None:
        store = SlowAnswers.of(ports)
        async with process(ports, "holder", execution=store) as holder:
            await ports.subscribe(spec("a"), spec("b"))
            await soon(store.claimed.get())
            async with process(ports, "here", max_in_flight=0) as here:
                await soon(here.commands.cancel(PROJECT, "a"))
            store.gate.set()

            assert (await holder.dispatcher.started()).task_id == "b"
            assert [delivery.task_id for delivery in holder.dispatcher.sent] == ["b"]

    async def test_a_holder_that_was_stopped_past_its_lease_does_not_send(self, ports: Ports) -> None:
        """Cancel has answered when the lease ran out; the holder comes back with the claim in hand."""
        async with instance(ports, "stopped") as stopped:
            await ports.subscribe(spec("a"))
            held_until = time.monotonic() + LEASE_MS / 1_000
            (claim,) = await ports.claim(instance="stopped", lease_ms=LEASE_MS)
            async with process(ports, "here", max_in_flight=0) as here:
                await soon(here.commands.cancel(PROJECT, "a"))

            stopped.attempts.start(claim, held_until)
            await soon(stopped.attempts.drained())

            assert stopped.dispatcher.sent == []

    async def test_a_holder_that_has_nothing_of_it_answers_at_once(self, ports: Ports) -> None:
        async with process(ports, "holder") as holder, instance(ports, "here") as here:
            async with hearing(ports.url, ports.settings, "here") as ear:
                await here.bus.send_revoke("holder", Revoke(Lease(PROJECT, "a", "t"), "here"))

                assert await ear.next() == Revoked(Lease(PROJECT, "a", "t"))
            assert holder.dispatcher.aborted == []

    async def test_what_is_waited_for_is_forgotten(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        await ports.claim(instance="dead", lease_ms=1)
        async with process(ports, "here", max_in_flight=0) as here:
            await soon(here.commands.cancel(PROJECT, "a"))

            assert not here.revocations._awaited


async def test_a_task_that_nobody_holds_needs_no_word(ports: Ports) -> None:
    async with instance(ports) as here:
        (task,) = await ports.subscribe(spec("a"))
        for cancelled in (Cancelled(task), Cancelled(task, "token", "dead", 0)):
            await soon(here.revocations.stop(PROJECT, cancelled))


@pytest.mark.parametrize("steps", range(0, 40, 2))
async def test_cancel_in_a_race_with_the_due_instant(ports: Ports, steps: int) -> None:
    """Whatever the interleaving: what is sent was sent before Cancel returned, and is aborted by then."""
    async with (
        process(ports, "here", lease_ms=HOUR_MS) as here,
        process(ports, "other", lease_ms=HOUR_MS) as other,
    ):
        for n in range(5):
            await ports.subscribe(spec(f"t{n}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task: Task = await soon(here.commands.cancel(PROJECT, f"t{n}"))
            assert task.state is TaskState.CANCELED
            sent = len(here.dispatcher.sent) + len(other.dispatcher.sent)
            assert len(here.dispatcher.aborted) + len(other.dispatcher.aborted) == sent
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(here.dispatcher.sent) + len(other.dispatcher.sent) == sent
        assert here.attempts.leases() == other.attempts.leases() == []


async def test_the_loops_of_a_process_end_when_told(ports: Ports) -> None:
    for n in range(10):
        async with (
            instance(ports) as here,
            running(here.switchboard.run(), here.monitor.run(), here.scheduler.run(), here.reporter.run()),
        ):
            await soon(here.monitor.caught_up())
            await ports.subscribe(spec(f"t{n}"))
