"""What a claim is told that there is no room for stays where it is, costs little, and hides nothing."""

import pytest

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.store.settings import StoreSettings
from tests.keys import VAULT
from tests.store.hearing import hearing
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

OTHER = "project1111111111"
TARGET = "https://target.example/hook"
FULL = frozenset({(PROJECT, VAULT.lane_of(TARGET))})


@pytest.fixture
def store_settings() -> StoreSettings:
    return StoreSettings(partitions=1)


def large(task_id: str, size: int, queue: str = "default") -> TaskSpec:
    return TaskSpec(task_id, HttpTarget(TARGET, body=b"x" * size), queue=queue)


async def calls(ports: Ports, command: str) -> int:
    """Return how often scripts and clients have called a command so far."""
    stats = await ports.client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


class TestShares:
    async def test_one_project_gets_no_more_from_all_of_its_queues(self, ports: Ports) -> None:
        await ports.create_project(OTHER)
        await ports.subscribe(*(spec(f"t{n}", queue=f"q{n % 5}") for n in range(50)))
        await ports.subscribe(spec("theirs"), project_id=OTHER)

        batch = await ports.look(share=12)

        taken = [claim.project_id for claim in batch.claims]
        assert (taken.count(PROJECT), taken.count(OTHER)) == (12, 1)
        assert batch.left_projects == [PROJECT]
        # Nothing but the ends of the leases.
        assert batch.next_due_ms is not None
        assert batch.next_due_ms > await ports.now_ms() + HOUR_MS // 2

    async def test_a_project_without_a_share_is_passed_by_and_keeps_its_turn(self, ports: Ports) -> None:
        await ports.create_project(OTHER)
        await ports.subscribe(*(spec(f"t{n}", queue=f"q{n}") for n in range(3)))
        await ports.subscribe(spec("theirs"), project_id=OTHER)

        batch = await ports.look(shares={PROJECT: 0})

        assert [claim.task_id for claim in batch.claims] == ["theirs"]
        assert batch.left_projects == [PROJECT]
        assert [claim.queue for claim in await ports.claim(1)] == ["q0"]

    async def test_what_is_due_later_is_told_all_the_same(self, ports: Ports) -> None:
        (task,) = await ports.subscribe(spec("later", schedule=Schedule(delay_ms=HOUR_MS)))
        assert (await ports.look(shares={PROJECT: 0})).next_due_ms == task.schedule_time_ms


class TestPassing:
    async def test_thousands_that_are_passed_by_are_not_looked_at_again(self, ports: Ports) -> None:
        await ports.create_project(OTHER)
        for start in range(0, 3_000, 500):
            await ports.subscribe(*(spec(f"t{n}", queue=f"q{n}") for n in range(start, start + 500)))
        await ports.subscribe(spec("theirs"), project_id=OTHER)
        taken: list[str] = []
        passed, most, rounds = None, 0, 0
        while not taken:
            before = await calls(ports, "zrange")
            batch = await ports.look(shares={PROJECT: 0}, passed=passed)
            most = max(most, await calls(ports, "zrange") - before)
            passed, rounds = batch.passed, rounds + 1
            taken = [claim.task_id for claim in batch.claims]
            assert taken or (batch.next_due_ms or 0) <= await ports.now_ms(), "there is more to look at"

        assert taken == ["theirs"]
        assert rounds <= 4
        assert most < 60, "pages of a hundred, a bounded number of them"
        before = await calls(ports, "zrange")
        assert not (await ports.look(shares={PROJECT: 0}, passed=passed)).claims
        assert await calls(ports, "zrange") - before < 20

    async def test_a_clock_that_was_set_back_hides_nothing(self, ports: Ports) -> None:
        await ports.subscribe(spec("new"))

        # By a clock that was ahead: of a server before, which failed, or of this one before it was set.
        batch = await ports.look(passed=await ports.now_ms() + 5_000)

        assert [claim.task_id for claim in batch.claims] == ["new"]
        assert batch.passed is not None
        assert batch.passed <= await ports.now_ms()

    async def test_what_becomes_due_is_behind_what_was_passed_by(self, ports: Ports) -> None:
        await ports.create_project(OTHER)
        await ports.subscribe(spec("a"))
        passed = (await ports.look(shares={PROJECT: 0})).passed

        await ports.subscribe(spec("old", schedule=Schedule(at_ms=1_000)), project_id=OTHER)

        batch = await ports.look(shares={PROJECT: 0}, passed=passed)
        assert [claim.task_id for claim in batch.claims] == ["old"]

    async def test_from_the_beginning_it_is_found_again(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        await ports.look(shares={PROJECT: 0})
        assert [claim.task_id for claim in await ports.claim()] == ["a"]


class TestSizes:
    async def test_a_claim_ends_where_there_is_no_room_for_the_next(self, ports: Ports) -> None:
        await ports.subscribe(*(large(f"t{n}", 10_000) for n in range(10)))

        batch = await ports.look(size=35_000)

        assert [claim.task_id for claim in batch.claims] == ["t0", "t1", "t2"]
        assert all(10_000 < claim.size < 11_000 for claim in batch.claims)
        assert batch.left_bytes
        assert batch.next_due_ms is not None
        assert batch.next_due_ms <= await ports.now_ms(), "there is more to take"

    async def test_the_first_may_be_larger_where_that_is_said(self, ports: Ports) -> None:
        await ports.subscribe(large("a", 10_000), large("b", 10_000))
        assert not (await ports.look(size=5_000)).claims
        assert [claim.task_id for claim in (await ports.look(size=5_000, larger=True)).claims] == ["a"]

    async def test_a_small_one_of_another_queue_does_not_wait_for_a_large_one(self, ports: Ports) -> None:
        await ports.subscribe(large("large", 10_000))
        await ports.subscribe(large("small", 10, "other"))

        batch = await ports.look(size=5_000)

        assert [claim.task_id for claim in batch.claims] == ["small"]
        assert batch.left_bytes
        assert [claim.task_id for claim in await ports.claim(1)] == ["large"], "it keeps its turn"


class TestDeadlines:
    async def expired_at(self, ports: Ports, task_id: str = "a") -> int:
        """Return the instant after which a task that waits for half a second has expired."""
        schedule = Schedule(start_deadline_ms=500)
        (task,) = await ports.subscribe(spec(task_id, schedule=schedule))
        assert task.schedule_time_ms is not None
        return task.schedule_time_ms + 501

    @pytest.mark.parametrize("room", [{"full": FULL}, {"shares": {PROJECT: 0}}, {"limit": 0}])
    async def test_one_that_there_is_no_room_for_expires(self, ports: Ports, room: dict[str, object]) -> None:
        at_ms = await self.expired_at(ports)
        batch = await ports.look(**room)  # type: ignore[arg-type]
        assert (list(batch.claims), batch.next_chore_ms, batch.expired) == ([], at_ms, 0)

        await ports.until(at_ms)
        batch = await ports.look(**room)  # type: ignore[arg-type]

        assert (list(batch.claims), batch.expired, batch.next_chore_ms) == ([], 1, None)
        assert await ports.events("a") == [EventType.SUBSCRIBED, EventType.EXPIRED]
        assert await ports.task_in_queue() == 0

    async def test_one_that_has_started_does_not_and_a_retry_neither(self, ports: Ports) -> None:
        at_ms = await self.expired_at(ports)
        claim = await ports.take("a")
        await ports.until(at_ms)
        await ports.report(claim.lease, Trigger.RETRY, wait_ms=0)

        batch = await ports.look(full=FULL)

        assert (batch.expired, batch.left_lanes) == (0, True)

    async def test_a_pause_ends_the_wait_and_it_begins_anew_afterwards(self, ports: Ports) -> None:
        at_ms = await self.expired_at(ports)
        await ports.tasks.pause(PROJECT, "a")
        await ports.until(at_ms)
        assert (await ports.look(limit=0)).next_chore_ms is None

        resumed = await ports.tasks.resume(PROJECT, "a")

        assert resumed.schedule_time_ms is not None
        assert (await ports.look(limit=0)).next_chore_ms == resumed.schedule_time_ms + 501
        await ports.tasks.run(PROJECT, "a")
        assert (await ports.look(limit=0)).next_chore_ms is None, "what is to run now runs however late"
        await ports.tasks.pause(PROJECT, "a")
        resumed = await ports.tasks.resume(PROJECT, "a")
        assert resumed.schedule_time_ms is not None
        assert (await ports.look(limit=0)).next_chore_ms == resumed.schedule_time_ms + 501
        await ports.tasks.cancel(PROJECT, "a")
        assert (await ports.look(limit=0)).next_chore_ms is None

    async def test_more_than_one_call_ends_are_looked_at_again_at_once(self, ports: Ports) -> None:
        late = Schedule(at_ms=1_000, start_deadline_ms=1)
        await ports.subscribe(*(spec(f"t{n}", schedule=late) for n in range(150)))

        first, second = [await ports.look(limit=0) for _ in range(2)]

        assert (first.expired, second.expired) == (100, 50)
        assert first.next_due_ms is not None
        assert first.next_due_ms <= await ports.now_ms()
        assert (await ports.tasks.get(PROJECT, "t0")).state is TaskState.EXPIRED

    async def test_one_behind_others_that_have_no_room_is_told_of(self, ports: Ports) -> None:
        await ports.subscribe(spec("before"))
        await ports.look(shares={PROJECT: 0})
        async with hearing(ports.url, ports.settings) as ear:
            at_ms = await self.expired_at(ports)
            assert [signal.at_ms for signal in await ear.so_far()] == [at_ms]  # type: ignore[union-attr]
