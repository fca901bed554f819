"""Claims: what is due, in turn, never early, and when to look again."""

import pytest
from redis.asyncio import Redis

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import HttpMethod, HttpTarget, RepeatPolicy, RetryPolicy, Schedule, TaskSpec
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.store.clock import PartitionClocks, StoreClock
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.keys import partition_of
from kuueri_grpc.store.settings import StoreSettings
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


def records(ports: Ports, part: str) -> list[dict[str, bytes]]:
    """Return the hashes whose key has `part` in its name."""
    raw = ports.raw()
    return [raw.databases[db][key].fields or {} for db, key in raw.names() if part in key]


def due_at(task_id: str, at_ms: int, queue: str = "default") -> TaskSpec:
    return spec(task_id, queue=queue, schedule=Schedule(at_ms=at_ms))


async def test_a_claim_carries_all_that_the_attempt_needs(ports: Ports) -> None:
    target = HttpTarget(
        "https://target.example/a?b=c", HttpMethod.PUT, {"x-a": "b"}, {"q": "ü"}, b"\x00\xff body", True
    )
    retry = RetryPolicy(max_retries=3, max_duration_ms=5_000, retryable_status_codes=(500, 503))
    repeat = RepeatPolicy(max_repeats=2)
    (task,) = await ports.subscribe(
        TaskSpec("a", target, queue="mail", retry=retry, repeat=repeat, attempt_timeout_ms=1_234)
    )

    claim = await ports.take("a")

    assert (claim.project_id, claim.task_id, claim.queue) == (PROJECT, "a", "mail")
    assert (claim.target, claim.retry, claim.repeat, claim.timeout_ms) == (target, retry, repeat, 1_234)
    assert (claim.attempt, claim.retry_count, claim.repeat_count) == (1, 0, 0)
    assert claim.schedule_time_ms == task.schedule_time_ms
    assert task.create_time_ms <= claim.run_start_ms <= await ports.now_ms()
    assert claim.signing_secrets == ("whsec_first",)


async def test_counts_and_the_start_of_a_run(ports: Ports) -> None:
    """attempt counts all; retry counts in a run; the run starts with its first attempt, not its retries."""
    await ports.subscribe(spec("a"))
    seen = []
    for trigger in (Trigger.RETRY, Trigger.REPEAT, Trigger.RETRY, Trigger.COMPLETE):
        await ports.tasks.run(PROJECT, "a")
        claim = await ports.take("a")
        seen.append((claim.attempt, claim.retry_count, claim.repeat_count, claim.run_start_ms))
        await ports.report(claim.lease, trigger)
        await ports.until(await ports.now_ms() + 2)

    assert [counts[:3] for counts in seen] == [(1, 0, 0), (2, 1, 0), (3, 0, 1), (4, 1, 1)]
    starts = [start for *_, start in seen]
    assert starts[0] == starts[1] < starts[2] == starts[3]


async def test_tasks_of_a_queue_come_by_due_time(ports: Ports) -> None:
    now_ms = await ports.now_ms()
    await ports.subscribe(*(due_at(f"t{n}", now_ms - n) for n in (3, 9, 1, 7)))

    assert [claim.task_id for claim in await ports.claim()] == ["t9", "t7", "t3", "t1"]


async def test_nothing_is_ever_early(ports: Ports) -> None:
    """Claim again and again while tasks of one queue fall due one after the other."""
    tasks = await ports.subscribe(
        *(spec(f"t{n:02}", schedule=Schedule(delay_ms=200 + 3 * n)) for n in range(20))
    )
    due_ms = {task.spec.task_id: task.schedule_time_ms for task in tasks}
    order: list[str] = []
    looks = empty_looks = 0
    while len(order) < 20:
        batch = await ports.look(lease_ms=2 * HOUR_MS)
        looks += 1
        order += [claim.task_id for claim in batch.claims]
        if not batch.claims:
            empty_looks += 1
            assert batch.next_due_ms == due_ms[f"t{len(order):02}"]

    # Of one look, at a time when all were due: the machine stood still meanwhile.
    assert empty_looks > 0 or looks == 1
    assert order == sorted(order)
    for task in tasks:
        kept = await ports.tasks.timeline(PROJECT, task.spec.task_id, 1, 1)
        assert task.schedule_time_ms is not None
        assert kept.events[0].create_time_ms >= task.schedule_time_ms


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_than_the_limit(ports: Ports, limit: int) -> None:
    await ports.subscribe(*(spec(f"{queue}-{n}", queue=queue) for queue in "abc" for n in range(3)))
    left = 9
    while left:
        claims = await ports.claim(limit)
        assert 0 < len(claims) <= limit
        left -= len(claims)

    assert not await ports.claim(limit)


async def test_what_is_claimed_is_not_claimed_again(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}") for n in range(50)))

    first = await ports.claim(30, instance="one")
    second = await ports.claim(30, instance="two")

    assert (len(first), len(second)) == (30, 20)
    assert {c.task_id for c in first} | {c.task_id for c in second} == {f"t{n}" for n in range(50)}
    assert len({c.token for c in (*first, *second)}) == 50


async def test_several_partitions_are_claimed_in_one_call(ports: Ports) -> None:
    projects = [await ports.create_project(f"project{n:010}") for n in range(1, 9)]
    for project in projects:
        await ports.subscribe(spec("a"), spec("b"), project_id=project)

    batches = await ports.execution.claim(dict.fromkeys(range(4), 100), "here", HOUR_MS)

    assert [batch.partition for batch in batches] == [0, 1, 2, 3]
    for batch in batches:
        assert {partition_of(claim.project_id, 4) for claim in batch.claims} <= {batch.partition}
    claimed = [(claim.project_id, claim.task_id) for batch in batches for claim in batch.claims]
    assert sorted(claimed) == sorted((project, task) for project in projects for task in ("a", "b"))


@pytest.mark.one_server("writes to the databases of one server")
@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, max_losses=2)])
async def test_a_record_that_cannot_be_read_keeps_no_other_task_waiting(ports: Ports) -> None:
    """It is left to an instance of a version that can; in the end it is parked."""
    await ports.subscribe(*(spec(f"t{n}") for n in range(3)))
    ((db, key),) = ports.raw().names_with(":config:project0000000000/t1")
    async with Redis.from_url(ports.url, db=db) as client:
        await client.hset(key, "request", b"\x92\x63x")

    assert [claim.task_id for claim in await ports.claim(lease_ms=1)] == ["t0", "t2"]

    for _ in range(2):
        await ports.until(await ports.now_ms() + 2)
        await ports.claim(lease_ms=1)
    assert {record["state"] for record in records(ports, ":task:")} == {b"FAILED"}


class TestNextDue:
    async def test_nothing_waits(self, ports: Ports) -> None:
        assert (await ports.look()).next_due_ms is None
        assert await ports.execution.next_due() == {}

    async def test_the_earliest_of_several_queues(self, ports: Ports) -> None:
        now_ms = await ports.now_ms()
        await ports.subscribe(
            due_at("a", now_ms + 2 * HOUR_MS, "a"), due_at("b", now_ms + HOUR_MS, "b"), due_at("c", now_ms)
        )

        batch = await ports.look(lease_ms=3 * HOUR_MS)

        assert [claim.task_id for claim in batch.claims] == ["c"]
        assert batch.next_due_ms == now_ms + HOUR_MS

    async def test_the_end_of_a_lease_that_comes_first(self, ports: Ports) -> None:
        before_ms = await ports.now_ms()
        await ports.subscribe(due_at("a", before_ms), due_at("b", before_ms + 2 * HOUR_MS))

        batch = await ports.look(lease_ms=HOUR_MS)

        assert batch.next_due_ms is not None
        assert before_ms + HOUR_MS <= batch.next_due_ms <= await ports.now_ms() + HOUR_MS
        assert await ports.execution.next_due() == {batch.partition: batch.next_due_ms}

    async def test_what_is_left_of_a_backlog_is_due_at_once(self, ports: Ports) -> None:
        await ports.subscribe(*(spec(f"t{n}") for n in range(3)))

        batch = await ports.look(limit=2)

        assert batch.next_due_ms is not None
        assert batch.next_due_ms <= await ports.now_ms()

    @pytest.mark.one_server("each node has a clock of its own, known to the millisecond")
    async def test_each_partition_has_its_own(self, ports: Ports) -> None:
        now_ms = await ports.now_ms()
        expected: dict[int, int] = {}
        for n in range(1, 9):
            project = await ports.create_project(f"project{n:010}")
            at_ms = now_ms + HOUR_MS - n
            await ports.subscribe(due_at("a", at_ms), project_id=project)
            partition = partition_of(project, 4)
            expected[partition] = min(at_ms, expected.get(partition, at_ms))

        assert await ports.execution.next_due() == expected

    @pytest.mark.parametrize("leaves", ["pause", "cancel"])
    async def test_a_head_that_leaves(self, ports: Ports, leaves: str) -> None:
        now_ms = await ports.now_ms()
        await ports.subscribe(due_at("a", now_ms + HOUR_MS), due_at("b", now_ms + 2 * HOUR_MS))

        await getattr(ports.tasks, leaves)(PROJECT, "a")
        assert (await ports.look()).next_due_ms == now_ms + 2 * HOUR_MS

        await getattr(ports.tasks, leaves)(PROJECT, "b")
        assert (await ports.look()).next_due_ms is None


class TestStartDeadline:
    async def test_a_task_past_it_expires_instead_of_running(self, ports: Ports) -> None:
        late = Schedule(at_ms=await ports.now_ms() - 1_000, start_deadline_ms=500)
        await ports.subscribe(spec("a", schedule=late))

        batch = await ports.look()

        assert (batch.claims, batch.next_due_ms) == ([], None)
        kept = await ports.tasks.timeline(PROJECT, "a", 1, 10)
        assert kept.task.state is TaskState.EXPIRED
        assert [(event.type, event.reason) for event in kept.events] == [
            (EventType.EXPIRED, Reason.START_DEADLINE)
        ]
        assert await ports.task_in_queue() == 0

    async def test_a_task_within_it_runs(self, ports: Ports) -> None:
        late = Schedule(at_ms=await ports.now_ms() - 1_000, start_deadline_ms=HOUR_MS)
        await ports.subscribe(spec("a", schedule=late))

        assert (await ports.take("a")).attempt == 1

    async def test_expired_tasks_do_not_stand_in_the_way(self, ports: Ports) -> None:
        late = Schedule(at_ms=1_000, start_deadline_ms=1)
        await ports.subscribe(*(spec(f"late-{n}", schedule=late) for n in range(5)), spec("on-time"))

        claims = [*await ports.claim(limit=3), *await ports.claim(limit=3)]

        assert [claim.task_id for claim in claims] == ["on-time"]

    async def test_a_paused_task_gets_it_anew(self, ports: Ports) -> None:
        """It is a wait after the due time, and Resume sets a new one."""
        late = Schedule(at_ms=await ports.now_ms() - 60_000, start_deadline_ms=30_000)
        await ports.subscribe(spec("a", schedule=late))
        await ports.tasks.pause(PROJECT, "a")
        await ports.tasks.resume(PROJECT, "a")

        assert (await ports.take("a")).attempt == 1


class TestRunNow:
    async def test_it_starts_at_once_and_says_so(self, ports: Ports) -> None:
        await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
        await ports.tasks.run(PROJECT, "a")

        claim = await ports.take("a")

        assert claim.schedule_time_ms <= await ports.now_ms()
        kept = await ports.tasks.timeline(PROJECT, "a", 0, 10)
        assert [(event.type, event.reason) for event in kept.events] == [
            (EventType.SUBSCRIBED, None),
            (EventType.DISPATCHED, Reason.RUN_NOW),
        ]

    async def test_only_the_next_attempt_is_early(self, ports: Ports) -> None:
        await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
        await ports.tasks.run(PROJECT, "a")
        await ports.report((await ports.take("a")).lease, Trigger.RETRY, wait_ms=1)
        await ports.until(await ports.now_ms() + 2)

        await ports.take("a")

        last = (await ports.tasks.timeline(PROJECT, "a", 0, 10)).events[-1]
        assert (last.type, last.reason) == (EventType.DISPATCHED, None)

    async def test_pause_takes_it_back(self, ports: Ports) -> None:
        await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
        await ports.tasks.run(PROJECT, "a")
        await ports.tasks.pause(PROJECT, "a")
        assert not await ports.claim()

        await ports.tasks.resume(PROJECT, "a")
        await ports.take("a")

        last = (await ports.tasks.timeline(PROJECT, "a", 0, 10)).events[-1]
        assert last.reason is None


class TestPause:
    @pytest.mark.parametrize("trigger", [None, Trigger.RETRY, Trigger.REPEAT])
    async def test_the_remaining_delay_is_kept(self, ports: Ports, trigger: Trigger | None) -> None:
        """In the first wait, in a retry wait and in a repeat wait alike."""
        if trigger is None:
            await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
        else:
            await ports.subscribe(spec("a"))
            await ports.report((await ports.take("a")).lease, trigger)
        waiting = await ports.tasks.get(PROJECT, "a")
        assert waiting.schedule_time_ms is not None

        before_ms = await ports.now_ms()
        paused = await ports.tasks.pause(PROJECT, "a")
        after_ms = await ports.now_ms()
        assert (paused.state, paused.schedule_time_ms) == (TaskState.PAUSED, None)
        await ports.until(after_ms + 20)
        resumed = await ports.tasks.resume(PROJECT, "a")

        assert resumed.schedule_time_ms is not None
        resumed_ms = (
            (await ports.tasks.timeline(PROJECT, "a", resumed.sequence - 1, 1)).events[0].create_time_ms
        )
        left_ms = resumed.schedule_time_ms - resumed_ms
        assert waiting.schedule_time_ms - after_ms <= left_ms <= waiting.schedule_time_ms - before_ms
        assert resumed.state is waiting.state

    async def test_a_task_paused_when_due_is_due_when_resumed(self, ports: Ports) -> None:
        await ports.subscribe(spec("a", schedule=Schedule(at_ms=1_000)))
        await ports.tasks.pause(PROJECT, "a")
        assert not await ports.claim()

        await ports.tasks.resume(PROJECT, "a")

        await ports.take("a")

    async def test_a_pause_during_the_attempt_keeps_the_whole_wait(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        claim = await ports.take("a")
        held = await ports.tasks.pause(PROJECT, "a")
        assert held.state is TaskState.DISPATCHING

        await ports.report(claim.lease, Trigger.RETRY, wait_ms=HOUR_MS)
        before_ms = await ports.now_ms()
        resumed = await ports.tasks.resume(PROJECT, "a")

        assert resumed.schedule_time_ms is not None
        assert before_ms + HOUR_MS <= resumed.schedule_time_ms <= await ports.now_ms() + HOUR_MS


async def test_one_that_was_due_before_it_was_made_is_late_since_then(ports: Ports) -> None:
    (task,) = await ports.subscribe(due_at("a", 1_000))
    claim = await ports.take("a")
    assert (claim.schedule_time_ms, claim.due_ms) == (1_000, task.create_time_ms)

    await ports.report(claim.lease, Trigger.RETRY, wait_ms=1)
    due_ms = (await ports.tasks.get(PROJECT, "a")).schedule_time_ms or 0
    await ports.until(due_ms)
    assert (await ports.take("a")).due_ms == due_ms


async def test_instants_that_the_engine_reckons_with_are_by_its_clock(ports: Ports) -> None:
    """The node that keeps a partition has a clock of its own, which may be minutes ahead."""
    behind_ms = 300_000
    names = (f"project{n:010}" for n in range(1, 99))
    project = next(name for name in names if partition_of(name, ports.settings.partitions))
    await ports.create_project(project)
    partition = partition_of(project, ports.settings.partitions)
    engine = StoreClock()
    runner, settings, _, vault, registry = ports.execution_parts
    store = RedisExecutionStore(runner, settings, engine, vault, registry)
    store._clocks = PartitionClocks(engine, partition + 2, one_server=False)
    engine.observe(await ports.now_ms() - behind_ms)
    (task,) = await ports.subscribe(spec("a"), project_id=project)

    (batch,) = await store.claim({partition: 1}, "here", HOUR_MS)

    (claim,) = batch.claims
    assert claim.schedule_time_ms == task.schedule_time_ms, "what its owner is told"
    told = [claim.due_ms, claim.run_start_ms, (batch.next_due_ms or 0) - HOUR_MS]
    assert all(abs(instant - engine.now_ms()) < behind_ms // 2 for instant in told)
