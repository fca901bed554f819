"""Lanes: tasks whose target has no room wait aside, and nothing waits behind them."""

import pytest

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.store import keys
from kuueri_grpc.store.vault import LANES
from tests.keys import VAULT
from tests.store.ports import HOUR_MS, PROJECT, Ports

lane_of = VAULT.lane_of

SLOW, QUICK = "https://slow.example/hook", "https://quick.example/hook"
FULL = frozenset({(PROJECT, lane_of(SLOW))})
BACKLOG = 1_200


def to(url: str, task_id: str, **more: object) -> TaskSpec:
    return TaskSpec(task_id, HttpTarget(url), **more)  # type: ignore[arg-type]


async def aside(ports: Ports, *task_ids: str) -> None:
    """Subscribe tasks to the slow target, and let them be left in its lane."""
    await ports.subscribe(*(to(SLOW, task_id) for task_id in task_ids))
    batch = await ports.look(full=FULL)
    assert (list(batch.claims), batch.left_lanes, batch.next_due_ms) == ([], True, None)


async def test_a_backlog_for_a_full_target_is_passed_by(ports: Ports) -> None:
    for start in range(0, BACKLOG, 400):
        slow = (to(SLOW, f"slow-{n}", schedule=Schedule(at_ms=n)) for n in range(start, start + 400))
        await ports.subscribe(*slow)
    await ports.subscribe(*(to(QUICK, f"quick-{n}") for n in range(3)))

    # 500 go aside with a call: this many are due before.
    first, second, third = [await ports.look(10, full=FULL) for _ in range(3)]

    assert [list(batch.claims) for batch in (first, second)] == [[], []]
    assert all(batch.next_due_ms is not None for batch in (first, second)), "there was more to look at"
    assert [claim.task_id for claim in third.claims] == [f"quick-{n}" for n in range(3)]
    assert third.left_lanes
    # Nothing but the ends of the leases.
    assert third.next_due_ms is not None
    assert third.next_due_ms > await ports.now_ms() + HOUR_MS // 2
    assert (await ports.look(10, full=FULL)).left_lanes


async def test_what_was_left_is_taken_in_its_order_when_there_is_room(ports: Ports) -> None:
    await ports.subscribe(*(to(SLOW, f"slow-{n}", schedule=Schedule(at_ms=n)) for n in range(20)))
    await ports.look(full=FULL)

    batch = await ports.look(15)

    assert [claim.task_id for claim in batch.claims] == [f"slow-{n}" for n in range(15)]
    assert {claim.queue for claim in batch.claims} == {"default"}
    assert not batch.left_lanes
    assert [claim.task_id for claim in await ports.claim()] == [f"slow-{n}" for n in range(15, 20)]


async def test_a_lane_has_its_turns_like_a_queue(ports: Ports) -> None:
    await aside(ports, *(f"slow-{n}" for n in range(20)))
    await ports.subscribe(*(to(QUICK, f"quick-{n}") for n in range(20)))

    names = [claim.task_id for claim in await ports.claim(10)]

    assert [sum(name.startswith(kind) for name in names) for kind in ("slow", "quick")] == [5, 5]


async def test_being_left_is_no_attempt_and_no_event(ports: Ports) -> None:
    await aside(ports, "a")
    task = await ports.tasks.get(PROJECT, "a")
    assert (task.state, task.attempt_count) == (TaskState.SCHEDULED, 0)
    assert await ports.events("a") == [EventType.SUBSCRIBED]


async def test_what_is_due_later_is_said_as_ever(ports: Ports) -> None:
    await aside(ports, "a")
    (later,) = await ports.subscribe(to(SLOW, "later", schedule=Schedule(delay_ms=HOUR_MS)))
    assert (await ports.look(full=FULL)).next_due_ms == later.schedule_time_ms


async def test_commands_find_a_task_in_its_lane(ports: Ports) -> None:
    await aside(ports, "cancelled", "paused", "run", "resumed")
    await ports.tasks.cancel(PROJECT, "cancelled")
    await ports.tasks.pause(PROJECT, "paused")
    await ports.tasks.run(PROJECT, "run")
    await ports.tasks.pause(PROJECT, "resumed")
    await ports.tasks.resume(PROJECT, "resumed")

    assert sorted(claim.task_id for claim in await ports.claim()) == ["resumed", "run"]


async def test_a_retry_waits_in_its_queue_again(ports: Ports) -> None:
    await aside(ports, "a")
    (claim,) = await ports.claim()
    await ports.report(claim.lease, Trigger.RETRY, wait_ms=0)

    assert (await ports.look(full=FULL)).left_lanes
    (again,) = await ports.claim()
    assert (again.task_id, again.attempt, again.lane) == ("a", 2, lane_of(SLOW))


async def test_a_task_of_before_there_were_lanes_is_in_none(ports: Ports) -> None:
    await ports.subscribe(to(SLOW, "a"))
    partition = keys.partition_of(PROJECT, ports.settings.partitions)
    key = f"{{{partition}}}:task:{PROJECT}/a"
    await ports.run_in(keys.EXECUTION, "redis.call('HDEL', KEYS[1], 'lane')", [key])

    (claim,) = (await ports.look(full=FULL)).claims

    assert (claim.task_id, claim.lane) == ("a", None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://a.example/y?z=1", True),
        ("https://A.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("https://a.example/", "https://b.example/", False),
        ("https://a.example/", "https://a.example:8443/", False),
    ],
)
def test_a_lane_is_of_an_origin(one: str, other: str, same: bool) -> None:
    assert (lane_of(one) == lane_of(other)) is same
    assert 0 <= lane_of(one) < LANES
