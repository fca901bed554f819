"""A record that no script can go on with: its task ends, and no other waits for it."""

import logging

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.store.keys import EXECUTION, partition_of
from tests.store.ports import PROJECT, Ports, report, spec

LEASE_MS = 20
WAITING_FIELDS = ["seq", "due", "attempt", "retry", "repeat", "start", "create", "deadline", "state"]
LEASED_FIELDS = ["state", "origin", "seq", "attempt"]
REPORT_FIELDS = ["seq", "attempt", "retry", "repeat", "sent"]
#: What a field may come to hold.
JUNK = ["oops", "nan", "-inf", "1e300", "-1"]


async def damage(ports: Ports, field: str | None, value: str = "oops") -> None:
    """Set a field of the task "damaged" behind the server's back; None: let its key be no hash."""
    key = f"{{{partition_of(PROJECT, 4)}}}:task:{PROJECT}/damaged"
    script = (
        "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"
        if field
        else "redis.call('HSET', KEYS[1], 'op', '') redis.call('SET', KEYS[1], ARGV[2])"
    )
    await ports.run_in(EXECUTION, script, [key], field or "", value)


async def assert_ended(ports: Ports, *before: EventType) -> None:
    told = await ports.tasks.timeline(PROJECT, "damaged", 0, 10)
    assert told.task.state is TaskState.FAILED
    assert [event.type for event in told.events] == [*before, EventType.ERRORED, EventType.FAILED]
    assert [event.reason for event in told.events[-2:]] == [Reason.UNREADABLE] * 2
    assert told.events[-2].detail == "its record is damaged"
    assert told.task.last_attempt is not None
    assert told.task.last_attempt.reason is Reason.UNREADABLE


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("field", WAITING_FIELDS)
async def test_a_due_task(ports: Ports, field: str, junk: str, caplog: pytest.LogCaptureFixture) -> None:
    await ports.subscribe(spec("damaged", schedule=Schedule(start_deadline_ms=60_000)), spec("whole"))
    await damage(ports, field, junk)

    with caplog.at_level(logging.ERROR, "kuueri_grpc"):
        batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == [(PROJECT, "damaged")]
    await assert_ended(ports, EventType.SUBSCRIBED, EventType.DISPATCHED)
    assert await ports.task_in_queue() == 1
    (line,) = caplog.records
    assert (line.__dict__["event"], line.__dict__["task"]) == ("task_unreadable", "damaged")


async def test_a_due_task_whose_record_is_no_hash(ports: Ports) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    await damage(ports, None)

    batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == [(PROJECT, "damaged")]
    await damage(ports, "op", "put back for the invariants")
    await assert_ended(ports, EventType.SUBSCRIBED, EventType.DISPATCHED)


@pytest.mark.parametrize("field", LEASED_FIELDS)
async def test_a_lease_that_runs_out(ports: Ports, field: str) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    await ports.claim(lease_ms=LEASE_MS)
    await damage(ports, field)
    await ports.until(await ports.now_ms() + LEASE_MS + 1)

    batch = await ports.look()

    assert [lost.task_id for lost in batch.recovered] == ["whole"]
    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == [(PROJECT, "damaged")]
    await assert_ended(ports, EventType.SUBSCRIBED, EventType.DISPATCHED)


@pytest.mark.parametrize("field", REPORT_FIELDS)
async def test_a_report(ports: Ports, field: str, caplog: pytest.LogCaptureFixture) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    leases = [claim.lease for claim in await ports.claim()]
    await damage(ports, field)
    reports = [report(lease, Trigger.RETRY) for lease in leases]

    with caplog.at_level(logging.ERROR, "kuueri_grpc"):
        assert await ports.execution.report(reports) == [True, True]

    assert (await ports.tasks.get(PROJECT, "whole")).state is TaskState.RETRYING
    await assert_ended(ports, EventType.SUBSCRIBED, EventType.DISPATCHED)
    assert [line.__dict__["event"] for line in caplog.records] == ["task_unreadable"]
    # The answer was lost, and the call is repeated.
    assert await ports.execution.report(reports) == [True, True]
    await assert_ended(ports, EventType.SUBSCRIBED, EventType.DISPATCHED)


@pytest.mark.parametrize("field", ["origin", "seq", "attempt"])
async def test_a_lease_that_is_handed_back(ports: Ports, field: str) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    leases = [claim.lease for claim in await ports.claim()]
    await damage(ports, field)

    assert await ports.execution.release(leases) == [True, True]

    assert (await ports.tasks.get(PROJECT, "whole")).state is TaskState.SCHEDULED
    await assert_ended(ports, EventType.SUBSCRIBED, EventType.DISPATCHED)


async def test_what_is_gone_is_no_damage(ports: Ports) -> None:
    """A member of the due index whose task was deleted."""
    await ports.subscribe(spec("damaged"), spec("whole"))
    stem = f"{{{partition_of(PROJECT, 4)}}}"
    for database, family in enumerate(("task", "config", "timeline"), start=1):
        await ports.run_in(database, "redis.call('DEL', KEYS[1])", [f"{stem}:{family}:{PROJECT}/damaged"])
    await ports.run_in(1, "redis.call('ZREM', KEYS[1], 'damaged')", [f"{stem}:index:{PROJECT}"])
    await ports.run_in(0, "redis.call('HINCRBY', KEYS[1], 'taskInQueue', -1)", [f"{stem}:project:{PROJECT}"])

    batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == []


@pytest.mark.one_server("on a cluster the other partitions are served, and nothing is raised")
async def test_what_the_store_says_to_a_script_that_fails_is_logged(
    ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    """An index that is none stops its partition: nobody could tell why otherwise."""
    due = f"{{{partition_of(PROJECT, 4)}}}:due"
    await ports.run_in(EXECUTION, "redis.call('SET', KEYS[1], 'none')", [due])
    with caplog.at_level(logging.WARNING, "kuueri_grpc"), pytest.raises(StoreUnavailable):
        await ports.claim()
    await ports.run_in(EXECUTION, "redis.call('DEL', KEYS[1])", [due])

    (line,) = [line for line in caplog.records if line.__dict__["event"] == "store_outage_began"]
    assert line.__dict__["kind"] == "other"
    assert "the first was claim: WRONGTYPE" in line.getMessage()


async def test_a_claim_without_an_answer(ports: Ports) -> None:
    await ports.subscribe(spec("damaged"), *(spec(f"whole-{n}") for n in range(5)))
    claims = await ports.claim()
    await damage(ports, "origin")
    # The same process asks again, and never had the answer.
    claim_id, _, _ = claims[0].token.partition(":")
    ports.execution._unanswered.note(partition_of(PROJECT, 4), claim_id)

    batch = await ports.look()

    assert batch.unreadable == [(PROJECT, "damaged")]
    assert {claim.task_id for claim in batch.claims} == {f"whole-{n}" for n in range(5)}
    assert {lost.reason for lost in batch.recovered} == {Reason.HANDED_BACK}
