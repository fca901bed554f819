"""Turns: no backlog, however long, keeps another queue or project waiting."""

import pytest

from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.store.settings import StoreSettings
from tests.store.ports import PROJECT, Ports, spec

BACKLOG = 10_000
MAX_BATCH = 1_000
OTHER = "project1111111111"

#: Both projects share the one partition.
one_partition = pytest.mark.parametrize("store_settings", [StoreSettings(partitions=1)], ids=["1 partition"])


async def backlog(ports: Ports, tasks: int = BACKLOG) -> None:
    """Fill a queue with tasks that were due long before any other."""
    old = [spec(f"old-{n}", queue="long", schedule=Schedule(at_ms=n)) for n in range(tasks)]
    # No more in one call than a client may send.
    for start in range(0, tasks, MAX_BATCH):
        await ports.subscribe(*old[start : start + MAX_BATCH])


@one_partition
async def test_a_long_backlog_gives_the_other_queues_their_share_at_once(ports: Ports) -> None:
    await ports.create_project(OTHER)
    await backlog(ports)
    await ports.subscribe(*(spec(f"mine-{n}", queue="short") for n in range(10)))
    await ports.subscribe(*(spec(f"theirs-{n}") for n in range(10)), project_id=OTHER)

    claims = await ports.claim(limit=30)

    shares = {owner: sum(c.task_id.startswith(owner) for c in claims) for owner in ("old", "mine", "theirs")}
    assert shares == {"old": 10, "mine": 10, "theirs": 10}
    await ports.everywhere("FLUSHALL")  # ten thousand tasks are not worth checking one by one


@one_partition
async def test_with_one_slot_queues_take_turns(ports: Ports) -> None:
    await backlog(ports, 50)
    await ports.subscribe(*(spec(f"new-{n}", queue="short") for n in range(5)))
    order = []
    for _ in range(10):
        await ports.until(await ports.now_ms() + 1)  # within one millisecond there is no order
        (claim,) = await ports.claim(limit=1)
        order.append(claim.queue)

    assert order.count("short") == 5
    assert order[:2] in (["long", "short"], ["short", "long"])


@one_partition
@pytest.mark.parametrize("growth", ["subscribed", "retried", "cancelled"])
async def test_a_backlog_that_moves_keeps_its_turn_and_no_more(ports: Ports, growth: str) -> None:
    """Whatever else happens to a queue between its turns does not put it in front of those that wait."""
    await backlog(ports, 50)
    await ports.subscribe(spec("new", queue="short"))
    order = []
    for n in range(4):
        await ports.until(await ports.now_ms() + 1)  # within one millisecond there is no order
        (claim,) = await ports.claim(limit=1)
        order.append(claim.queue)
        if growth == "subscribed":
            await ports.subscribe(spec(f"more-{n}", queue="long", schedule=Schedule(at_ms=0)))
        elif growth == "cancelled":
            await ports.tasks.cancel(PROJECT, f"old-{49 - n}")
        elif claim.queue == "long":
            await ports.report(claim.lease, Trigger.RETRY, wait_ms=1)

    assert "short" in order[:2]


@one_partition
async def test_more_queues_than_slots_all_get_their_turn(ports: Ports) -> None:
    await ports.subscribe(
        *(
            spec(f"{queue}-{n}", queue=f"q{queue}", schedule=Schedule(at_ms=0))
            for queue in range(9)
            for n in range(9)
        )
    )
    rounds: list[set[str]] = []
    for _ in range(3):
        seen: list[str] = []
        for _ in range(3):
            seen += [claim.queue for claim in await ports.claim(limit=3)]
            await ports.until(await ports.now_ms() + 1)
        rounds.append(set(seen))

    assert [len(queues) for queues in rounds] == [9, 9, 9]


@one_partition
async def test_a_share_that_is_not_used_goes_to_the_others_with_the_next_claim(ports: Ports) -> None:
    await backlog(ports, 50)
    await ports.subscribe(spec("only", queue="short"))

    first = await ports.look(limit=20)
    second = await ports.look(limit=20)

    assert {claim.queue for claim in first.claims} == {"long", "short"}
    assert first.next_due_ms is not None
    assert first.next_due_ms <= await ports.now_ms()
    assert len(second.claims) == 20
