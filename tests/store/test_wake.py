"""The wake-up: published when, and only when, a partition is due earlier than before."""

from collections.abc import AsyncIterator
from itertools import count

import pytest

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.ports import Claim, Due
from kuueri_grpc.store import keys
from tests.keys import VAULT
from tests.store.drive import drive
from tests.store.hearing import Ear, hearing
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

pytestmark = pytest.mark.one_server(
    "what several nodes say comes in no order; see tests/cluster/test_signals.py"
)

HERE = keys.partition_of(PROJECT, 4)

_ids = count()


@pytest.fixture
async def ear(ports: Ports) -> AsyncIterator[Ear]:
    async with hearing(ports.url, ports.settings) as ear:
        yield ear


async def subscribe(ports: Ports, task_id: str, at_ms: int, queue: str = "default") -> None:
    await ports.subscribe(spec(task_id, queue=queue, schedule=Schedule(at_ms=at_ms)))


async def test_the_first_task(ports: Ports, ear: Ear) -> None:
    at_ms = await ports.now_ms() + HOUR_MS

    await subscribe(ports, "a", at_ms)

    assert await ear.so_far() == [Due(HERE, at_ms)]


@pytest.mark.parametrize("queue", ["default", "other"])
async def test_an_earlier_and_a_later_one(ports: Ports, ear: Ear, queue: str) -> None:
    at_ms = await ports.now_ms() + 2 * HOUR_MS
    await subscribe(ports, "a", at_ms)
    await ear.so_far()

    await subscribe(ports, "later", at_ms + 1, queue)
    await subscribe(ports, "same", at_ms, queue)
    assert await ear.so_far() == []

    await subscribe(ports, "earlier", at_ms - 1, queue)
    assert await ear.so_far() == [Due(HERE, at_ms - 1)]


async def test_a_batch_says_it_once(ports: Ports, ear: Ear) -> None:
    at_ms = await ports.now_ms() + HOUR_MS
    await ports.subscribe(
        *(spec(f"t{n}", queue=f"q{n}", schedule=Schedule(at_ms=at_ms - n)) for n in range(5))
    )

    assert await ear.so_far() == [Due(HERE, at_ms - 4)]


async def test_what_was_due_long_ago_is_due_now(ports: Ports, ear: Ear) -> None:
    await subscribe(ports, "a", await ports.now_ms() + HOUR_MS)
    await ear.so_far()
    before_ms = await ports.now_ms()

    await subscribe(ports, "b", 1_000)

    (due,) = await ear.so_far()
    assert isinstance(due, Due)
    assert before_ms <= due.at_ms <= await ports.now_ms()


async def test_each_partition_is_spoken_of(ports: Ports, ear: Ear) -> None:
    at_ms = await ports.now_ms() + HOUR_MS
    partitions = set()
    for n in range(1, 9):
        project = await ports.create_project(f"project{n:010}")
        await ports.subscribe(spec("a", schedule=Schedule(at_ms=at_ms - n)), project_id=project)
        partitions.add(keys.partition_of(project, 4))

    assert {signal.partition for signal in await ear.so_far() if isinstance(signal, Due)} == partitions


async def test_nobody_is_woken_by_what_takes_away(ports: Ports, ear: Ear) -> None:
    await drive(ports, TaskState.DISPATCHING)  # there is a lease already
    for task_id in ("a", "b", "c"):
        await subscribe(ports, task_id, await ports.now_ms() + HOUR_MS)
    await subscribe(ports, "due", 1_000)
    await ear.so_far()

    claim = await ports.take("due")
    await ports.execution.renew([claim.lease], HOUR_MS)
    await ports.report(claim.lease, Trigger.COMPLETE)
    await ports.tasks.pause(PROJECT, "a")
    await ports.tasks.cancel(PROJECT, "b")
    await ports.tasks.purge(PROJECT, "a")
    await ports.execution.sweep()
    await ports.execution.next_due()

    assert await ear.so_far() == []


async def test_the_first_lease_of_a_partition(ports: Ports, ear: Ear) -> None:
    """If its holder died, nobody else would have a reason to look there."""
    first = await claim_one(ports, ear)
    (lease_end_ms,) = leases(ports)
    assert await ear.so_far() == [Due(HERE, lease_end_ms)]

    second = await claim_one(ports, ear)
    assert await ear.so_far() == []

    for claim in (first, second):
        await ports.report(claim.lease, Trigger.COMPLETE)
    assert leases(ports) == []
    await claim_one(ports, ear)
    assert await ear.so_far() == [Due(HERE, *leases(ports))]


async def claim_one(ports: Ports, ear: Ear) -> Claim:
    """Claim a task of its own that falls due now; what is heard afterwards is of the claim alone."""
    task_id = f"due-{next(_ids)}"
    await subscribe(ports, task_id, 1_000)
    await ear.so_far()
    return await ports.take(task_id)


def leases(ports: Ports) -> list[int]:
    """Return until when the leases of the partition hold, on the store's clock (ms)."""
    entry = ports.raw().databases[keys.EXECUTION].get(f"{{{HERE}}}:leases")
    return list((entry.scores or {}).values()) if entry else []


async def test_a_claim_that_gives_nothing(ports: Ports, ear: Ear) -> None:
    assert not await ports.claim()
    await subscribe(ports, "later", await ports.now_ms() + HOUR_MS)
    await ear.so_far()

    assert not await ports.claim()

    assert await ear.so_far() == []


@pytest.mark.parametrize("trigger", [Trigger.RETRY, Trigger.REPEAT])
async def test_a_retry_or_repetition_that_comes_before_all_else(
    ports: Ports, ear: Ear, trigger: Trigger
) -> None:
    driven = await drive(ports, TaskState.DISPATCHING)
    await subscribe(ports, "later", await ports.now_ms() + 2 * HOUR_MS)
    await ear.so_far()

    await ports.report(driven.lease, trigger, wait_ms=HOUR_MS)

    due_ms = (await ports.tasks.get(PROJECT, driven.task_id)).schedule_time_ms
    assert due_ms is not None
    assert await ear.so_far() == [Due(HERE, due_ms)]


async def test_a_retry_that_comes_after_another_task(ports: Ports, ear: Ear) -> None:
    driven = await drive(ports, TaskState.DISPATCHING)
    await subscribe(ports, "sooner", await ports.now_ms() + HOUR_MS)
    await ear.so_far()

    await ports.report(driven.lease, Trigger.RETRY, wait_ms=2 * HOUR_MS)

    assert await ear.so_far() == []


async def test_resume(ports: Ports, ear: Ear) -> None:
    driven = await drive(ports, TaskState.PAUSED)
    await ear.so_far()

    resumed = await ports.tasks.resume(PROJECT, driven.task_id)

    assert resumed.schedule_time_ms is not None
    assert await ear.so_far() == [Due(HERE, resumed.schedule_time_ms)]


@pytest.mark.parametrize("state", [TaskState.SCHEDULED, TaskState.RETRYING, TaskState.PAUSED])
async def test_run(ports: Ports, ear: Ear, state: TaskState) -> None:
    driven = await drive(ports, state)
    await ear.so_far()

    running = await ports.tasks.run(PROJECT, driven.task_id)

    assert running.schedule_time_ms is not None
    assert await ear.so_far() == [Due(HERE, running.schedule_time_ms)]


async def test_a_task_that_is_given_back(ports: Ports, ear: Ear) -> None:
    """Whoever gave it back may have no slot for it."""
    driven = await drive(ports, TaskState.DISPATCHING, trigger=Trigger.RECOVER)
    await ear.so_far()

    await driven.apply(Trigger.RECOVER)

    due_ms = (await ports.tasks.get(PROJECT, driven.task_id)).schedule_time_ms
    assert due_ms is not None
    assert await ear.so_far() == [Due(HERE, due_ms)]


class TestBehindTasksWithoutRoom:
    """They are due and stay at the head of the index, and hide nothing that becomes due behind them."""

    SLOW = "https://slow.example/hook"

    async def aside(self, ports: Ports, ear: Ear) -> None:
        """Leave tasks in the lane of a slow target, and hear of it."""
        await ports.subscribe(*(TaskSpec(f"slow-{n}", HttpTarget(self.SLOW)) for n in range(3)))
        await ear.so_far()
        full = [(PROJECT, VAULT.lane_of(self.SLOW))]
        assert (await ports.look(full=full)).left_lanes
        assert await ear.so_far() == [], "they were due before"

    @pytest.mark.parametrize("wait_ms", [0, HOUR_MS])
    async def test_a_task_for_another_target(self, ports: Ports, ear: Ear, wait_ms: int) -> None:
        await self.aside(ports, ear)

        (task,) = await ports.subscribe(spec("new", schedule=Schedule(delay_ms=wait_ms)))

        assert await ear.so_far() == [Due(HERE, task.schedule_time_ms or 0)]

    async def test_a_retry(self, ports: Ports, ear: Ear) -> None:
        await self.aside(ports, ear)
        await subscribe(ports, "again", 1_000)
        (claim,) = (await ports.look(full=[(PROJECT, VAULT.lane_of(self.SLOW))])).claims
        await ear.so_far()

        await ports.report(claim.lease, Trigger.RETRY)

        due_ms = (await ports.tasks.get(PROJECT, claim.task_id)).schedule_time_ms
        assert await ear.so_far() == [Due(HERE, due_ms or 0)]

    async def test_a_later_task_of_a_queue_that_has_a_backlog_is_no_news(
        self, ports: Ports, ear: Ear
    ) -> None:
        await self.aside(ports, ear)
        await ports.subscribe(spec("due"))
        await ear.so_far()

        for n in range(3):
            await ports.subscribe(spec(f"more-{n}"), spec(f"later-{n}", schedule=Schedule(delay_ms=HOUR_MS)))

        assert await ear.so_far() == []


async def test_a_lease_that_ends_before_the_others(ports: Ports, ear: Ear) -> None:
    """An instance with a shorter lease time than the others."""
    await claim_one(ports, ear)
    await subscribe(ports, "short", 1_000)
    await ear.so_far()

    await ports.take("short", HOUR_MS // 2)

    assert await ear.so_far() == [Due(HERE, min(leases(ports)))]
