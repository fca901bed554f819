"""What waits in the store: counted right, with bounded work."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.ports import Backlog
from kuueri_grpc.store import backlog as backlog_module
from kuueri_grpc.store.backlog import RedisBacklogReader
from kuueri_grpc.store.keys import partition_of
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

LATER = Schedule(delay_ms=HOUR_MS)


async def read(ports: Ports) -> Backlog:
    return await RedisBacklogReader(ports.runner, ports.settings).read()


async def test_an_empty_store(ports: Ports) -> None:
    assert await read(ports) == Backlog(waiting=0, due=0, oldest_due_ms=0, leased=0, queues=0, exact=True)


async def test_counts_over_projects_queues_and_partitions(ports: Ports) -> None:
    others = [await ports.create_project(f"project{n:09}") for n in range(1, 6)]
    for project in (PROJECT, *others):
        await ports.subscribe(
            spec("now"),
            spec("later", schedule=LATER),
            spec("b", queue="second", schedule=LATER),
            project_id=project,
        )
    seen = await read(ports)
    assert (seen.waiting, seen.due, seen.leased, seen.queues) == (18, 6, 0, 12)
    assert seen.exact


async def test_a_task_in_flight_or_paused_does_not_wait(ports: Ports) -> None:
    await ports.subscribe(spec("a"), spec("b", schedule=LATER), spec("c", schedule=LATER))
    claim = await ports.take("a")
    await ports.tasks.pause(PROJECT, "b")
    seen = await read(ports)
    assert (seen.waiting, seen.due, seen.leased) == (1, 0, 1)
    await ports.report(claim.lease, Trigger.RETRY)
    seen = await read(ports)
    assert (seen.waiting, seen.due, seen.leased) == (2, 0, 0)


@contextlib.asynccontextmanager
async def made_before(ports: Ports, *task_ids: str) -> AsyncIterator[None]:
    """Let tasks have been made an hour ago, until the end of the block."""
    tag = partition_of(PROJECT, ports.settings.partitions)
    keys = [f"{{{tag}}}:task:{PROJECT}/{task_id}" for task_id in task_ids]
    script = "for _, key in ipairs(KEYS) do redis.call('HINCRBY', key, 'create', ARGV[1]) end"
    await ports.run_in(1, script, keys, -HOUR_MS)
    yield
    await ports.run_in(1, script, keys, HOUR_MS)


async def test_one_that_was_due_before_it_was_made_waits_since_then(ports: Ports) -> None:
    now_ms = await ports.now_ms()
    await ports.subscribe(spec("long-ago", schedule=Schedule(at_ms=1_000)))
    assert (await read(ports)).oldest_due_ms <= await ports.now_ms() - now_ms

    await ports.subscribe(spec("waits", schedule=Schedule(at_ms=now_ms - 60_000)))
    async with made_before(ports, "waits"):
        assert 60_000 <= (await read(ports)).oldest_due_ms < HOUR_MS, "also behind others of that kind"


async def test_the_oldest_is_the_one_that_was_due_first(ports: Ports) -> None:
    now_ms = await ports.now_ms()
    await ports.subscribe(spec("new", queue="a"), spec("b", schedule=LATER))
    await ports.subscribe(spec("old", queue="z", schedule=Schedule(at_ms=now_ms - 60_000)))
    async with made_before(ports, "old"):
        seen = await read(ports)
    assert seen.due == 2
    assert 60_000 <= seen.oldest_due_ms <= await ports.now_ms() - (now_ms - 60_000)


async def test_a_queue_that_had_its_turn_is_as_old_as_its_tasks(ports: Ports) -> None:
    past = Schedule(at_ms=await ports.now_ms() - 60_000)
    await ports.subscribe(spec("a", schedule=past), spec("b", schedule=past))
    await ports.claim(limit=1)
    async with made_before(ports, "b"):
        seen = await read(ports)
    assert (seen.due, seen.leased) == (1, 1)
    assert seen.oldest_due_ms >= 60_000


async def test_with_many_queues_it_says_that_it_has_not_counted_all(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_module, "_QUEUES_PER_PARTITION", 3)
    await ports.subscribe(*(spec(f"t{n}", queue=f"q{n}") for n in range(3)))
    seen = await read(ports)
    assert (seen.waiting, seen.queues, seen.exact) == (3, 3, True)
    await ports.subscribe(spec("one-more", queue="q4"), spec("and-one", queue="q4"))
    seen = await read(ports)
    assert (seen.queues, seen.exact) == (4, False)
    assert 3 <= seen.waiting <= 5
