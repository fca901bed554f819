"""The scheduler: claims what is due, sleeps otherwise, and hears what makes it look earlier."""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.engine import backoff
from kuueri_grpc.ports import ANY_ROOM, ClaimBatch, Room
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.keys import partition_of
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import Instance, SlowAnswers, instance, process, running, soon
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


class Counted(RedisExecutionStore):
    """The real store; `limits` are those of the claims, `outages` how many are still to fail."""

    limits: list[Mapping[int, int]]
    outages: int

    @classmethod
    def of(cls, ports: Ports, outages: int = 0) -> "Counted":
        store = cls(*ports.execution_parts)
        store.limits, store.outages = [], outages
        return store

    async def claim(
        self,
        limits: Mapping[int, int],
        instance: str,
        lease_ms: int,
        room: Room = ANY_ROOM,
    ) -> list[ClaimBatch]:
        self.limits.append(limits)
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("not now")
        return await super().claim(limits, instance, lease_ms, room)


async def started(here: Instance, count: int) -> set[str]:
    return {(await here.dispatcher.started()).task_id for _ in range(count)}


async def test_a_task_that_is_due_starts(ports: Ports) -> None:
    async with process(ports) as here:
        await ports.subscribe(spec("a"))

        assert await started(here, 1) == {"a"}
        here.dispatcher.answer("a")
        await soon(here.attempts.drained())

    assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.COMPLETED


async def test_what_fell_due_before_it_ran_starts(ports: Ports) -> None:
    await ports.subscribe(spec("a"), spec("b", schedule=Schedule(at_ms=1_000)))
    async with process(ports) as here:
        assert await started(here, 2) == {"a", "b"}


async def test_nothing_starts_early(ports: Ports) -> None:
    """Nor does the scheduler look early: one look finds it."""
    store = Counted.of(ports)
    async with process(ports, execution=store) as here:
        (task,) = await ports.subscribe(spec("a", schedule=Schedule(delay_ms=50)))
        await started(here, 1)

        assert task.schedule_time_ms is not None
        dispatched = (await ports.tasks.timeline(PROJECT, "a", 1, 1)).events[0]
        assert dispatched.create_time_ms >= task.schedule_time_ms
        # The store rounds its clock down, so the instant itself may come a moment after the first look.
        assert len(store.limits) <= 2


async def test_a_task_that_is_due_before_the_one_it_sleeps_for(ports: Ports) -> None:
    await ports.subscribe(spec("later", schedule=Schedule(delay_ms=HOUR_MS)))
    async with process(ports) as here:
        await ports.subscribe(spec("now"))

        assert await started(here, 1) == {"now"}


@pytest.mark.parametrize("command", ["run", "resume"])
async def test_a_command_that_makes_a_task_due(ports: Ports, command: str) -> None:
    wait = Schedule(delay_ms=HOUR_MS) if command == "run" else Schedule()
    await ports.subscribe(spec("a", schedule=wait))
    await ports.tasks.pause(PROJECT, "a")
    async with process(ports) as here:
        await getattr(ports.tasks, command)(PROJECT, "a")

        assert await started(here, 1) == {"a"}


async def test_an_idle_scheduler_does_not_look(ports: Ports) -> None:
    store = Counted.of(ports)
    await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    async with process(ports, execution=store) as here:
        for n in range(20):
            await ports.subscribe(spec(f"t{n}", schedule=Schedule(delay_ms=2 * HOUR_MS)))
        await ports.tasks.run(PROJECT, "a")
        await started(here, 1)

    assert len(store.limits) == 1


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=32)], ids=["32 partitions"])
async def test_tasks_of_every_partition(ports: Ports) -> None:
    projects = [await ports.create_project(f"project{n:010}") for n in range(1, 60)]
    for project in projects:
        await ports.subscribe(spec(f"of-{project}"), project_id=project)
    async with process(ports, max_in_flight=100) as here:
        assert await started(here, 59) == {f"of-{project}" for project in projects}


class TestSlots:
    async def test_no_more_attempts_than_slots(self, ports: Ports) -> None:
        await ports.subscribe(*(spec(f"t{n}") for n in range(10)))
        async with process(ports, max_in_flight=3) as here:
            await started(here, 3)
            for n in range(7):
                assert here.attempts.free_slots == 0
                here.dispatcher.answer(f"t{n}")
                assert await started(here, 1) == {f"t{n + 3}"}
            for n in range(7, 10):
                here.dispatcher.answer(f"t{n}")
            await soon(here.attempts.drained())
            assert len(here.dispatcher.sent) == 10

    async def test_a_full_process_waits_for_a_slot_and_not_for_one_that_was_taken_again(
        self, ports: Ports
    ) -> None:
        store = Counted.of(ports)
        async with instance(ports, max_in_flight=1, execution=store) as here, running(here.reporter.run()):
            await ports.subscribe(spec("first"))
            await here.scheduler.look_again()
            await here.scheduler.run_once()
            await started(here, 1)
            here.dispatcher.answer("first")
            await soon(here.attempts.drained())
            await ports.subscribe(spec("second"), spec("third"))
            await here.scheduler.look_again()
            await here.scheduler.run_once()
            await started(here, 1)

            waiting = asyncio.ensure_future(here.scheduler.run_once())
            # Longer than it lets freed slots gather: had it taken the slot for free, it had claimed by now.
            await ports.until(await ports.now_ms() + 20)
            assert not waiting.done()
            here.dispatcher.answer("second")
            await soon(waiting)

            assert await started(here, 1) == {"third"}
            assert [dict(limits) for limits in store.limits] == [{partition_of(PROJECT, 4): 1}] * 3

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=32)], ids=["32 partitions"])
    async def test_with_fewer_slots_than_partitions_all_have_their_turn(self, ports: Ports) -> None:
        for n in range(1, 40):
            project = await ports.create_project(f"project{n:010}")
            await ports.subscribe(spec(f"t{n}"), project_id=project)
        async with process(ports, max_in_flight=2) as here:
            here.dispatcher.answer_all()

            assert await started(here, 39) == {f"t{n}" for n in range(1, 40)}

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4)], ids=["4 partitions"])
    async def test_of_many_backlogs_a_few_have_a_longer_turn(self, ports: Ports) -> None:
        store = Counted.of(ports)
        projects = {partition_of(name, 4): name for name in (f"project{n:010}" for n in range(1, 60))}
        for project in projects.values():
            await ports.create_project(project)
            await ports.subscribe(*(spec(f"t{n}") for n in range(30)), project_id=project)
        async with instance(ports, max_in_flight=23, execution=store) as here, running(here.reporter.run()):
            here.dispatcher.answer_all()
            await here.scheduler.look_again()
            for _ in range(3):
                await here.scheduler.run_once()
                await soon(here.attempts.drained())

        first, *later = store.limits
        assert dict(first) == dict.fromkeys(range(4), 4)  # nothing is known yet
        assert [list(limits.values()) for limits in later] == [[16, 2]] * 2
        # Neither of those that had their turn is in front of those that wait for theirs.
        assert not later[0].keys() & later[1].keys()

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=2)], ids=["2 partitions"])
    async def test_a_project_with_many_queues_does_not_keep_the_others_from_their_turn(
        self, ports: Ports
    ) -> None:
        """However long its queues have waited, their partition goes behind others when it had its turn."""
        store = Counted.of(ports)
        projects = {partition_of(name, 2): name for name in (f"project{n:010}" for n in range(1, 20))}
        for project in projects.values():
            await ports.create_project(project)
        many, one = projects.values()
        await ports.subscribe(*(spec(f"t{n}", queue=f"q{n}") for n in range(60)), project_id=many)
        await ports.subscribe(*(spec(f"t{n}") for n in range(60)), project_id=one)
        async with instance(ports, max_in_flight=20, execution=store) as here, running(here.reporter.run()):
            here.dispatcher.answer_all()
            await here.scheduler.look_again()
            for _ in range(3):
                await here.scheduler.run_once()
                await soon(here.attempts.drained())

        first, *later = store.limits
        assert dict(first) == {0: 8, 1: 8}
        assert sorted(dict(limits).popitem() for limits in later) == [(0, 16), (1, 16)]


class TestWakeUps:
    async def test_one_that_overtakes_the_answer_of_a_claim_is_kept(self, ports: Ports) -> None:
        """The claim found nothing more; what was subscribed right after it must not wait for the next."""
        store = SlowAnswers.of(ports)
        async with process(ports, execution=store) as here:
            await ports.subscribe(spec("first"))
            await soon(store.claimed.get())
            await ports.subscribe(spec("second"))
            await here.bus.follow(PROJECT, "fence")  # confirmed behind the wake-up, on the same connection
            store.gate.set()

            assert await started(here, 2) == {"first", "second"}

    async def test_a_lost_one_is_made_up_for_by_looking_again(self, ports: Ports) -> None:
        async with instance(ports) as here, running(here.scheduler.run(), here.reporter.run()):
            await ports.subscribe(spec("a"))  # nobody listens

            await here.scheduler.look_again()

            assert await started(here, 1) == {"a"}

    async def test_after_the_connection_broke_it_looks_again(self, ports: Ports) -> None:
        async with process(ports, max_in_flight=20) as here:
            for n in range(10):
                await ports.client.client_kill_filter(_type="pubsub")
                await ports.subscribe(spec(f"t{n}"))
                assert await started(here, 1) == {f"t{n}"}


async def test_stop_claims_nothing_more_and_lets_attempts_end(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}") for n in range(3)))
    async with instance(ports, max_in_flight=2) as here, running(here.reporter.run()):
        await here.scheduler.look_again()
        loop = asyncio.ensure_future(here.scheduler.run())
        await started(here, 2)
        here.scheduler.stop()
        await soon(loop)
        for n in range(2):
            here.dispatcher.answer(f"t{n}")
        await soon(here.attempts.drained())

    assert (await ports.tasks.get(PROJECT, "t2")).state is TaskState.SCHEDULED


async def test_stop_ends_a_sleep(ports: Ports) -> None:
    async with instance(ports) as here:
        loop = asyncio.ensure_future(here.scheduler.run())
        await asyncio.sleep(0)
        here.scheduler.stop()

        await soon(loop)


async def test_an_outage_is_got_over(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "_FIRST_S", 0.001)
    await ports.subscribe(spec("a"))
    with caplog.at_level(logging.WARNING):
        async with process(ports, execution=Counted.of(ports, outages=3)) as here:
            assert await started(here, 1) == {"a"}

    assert any("claiming due tasks failed" in record.message for record in caplog.records)


async def test_two_instances_share_the_work_and_send_nothing_twice(ports: Ports) -> None:
    async with process(ports, "one", max_in_flight=5) as one, process(ports, "two", max_in_flight=5) as two:
        one.dispatcher.answer_all()
        two.dispatcher.answer_all()
        await ports.subscribe(*(spec(f"t{n}") for n in range(300)))
        while await ports.task_in_queue():
            await ports.until(await ports.now_ms() + 1)

        sent = [delivery.task_id for here in (one, two) for delivery in here.dispatcher.sent]
        assert sorted(sent) == sorted(f"t{n}" for n in range(300))
