"""Counters of a project that do not fit what else is kept, as after a backup: no script fails half-way."""

from collections.abc import Awaitable, Callable

import pytest

from kuueri_grpc.domain.errors import CursorTooOld
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.store.keys import partition_of, project
from tests.store.feeds import number_faults, parse
from tests.store.ports import HOUR_MS, PROJECT, Ports, report, spec

PARTITION = partition_of(PROJECT, 4)
FEED = f"{{{PARTITION}}}:feed:{PROJECT}"
LATER = Schedule(delay_ms=HOUR_MS)


async def in_database(ports: Ports, database: int, key: str, *command: str) -> None:
    """Run a command on a key behind the server's back."""
    await ports.run_in(database, "redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))", [key], *command)


async def set_counter(ports: Ports, name: str, value: str) -> None:
    await in_database(ports, 0, project(PARTITION, PROJECT), "HSET", name, value)


async def _report(ports: Ports) -> None:
    (claim,) = await ports.claim()
    assert await ports.execution.report([report(claim.lease, Trigger.COMPLETE)]) == [True]


async def _release(ports: Ports) -> None:
    (claim,) = await ports.claim()
    await ports.execution.release([claim.lease])
    assert await ports.claim()


#: What a script does to a project with a task that is due and one that is paused.
CHANGES: dict[str, Callable[[Ports], Awaitable[object]]] = {
    "subscribe": lambda ports: ports.subscribe(spec("more"), spec("still-more")),
    "claim": lambda ports: ports.claim(),
    "report": _report,
    "release": _release,
    "pause": lambda ports: ports.tasks.pause(PROJECT, "due"),
    "resume": lambda ports: ports.tasks.resume(PROJECT, "paused"),
    "run": lambda ports: ports.tasks.run(PROJECT, "paused"),
    "cancel": lambda ports: ports.tasks.cancel(PROJECT, "due"),
    "purge": lambda ports: ports.tasks.purge(PROJECT, "paused"),
}


@pytest.fixture
async def ports_with_events(ports: Ports) -> Ports:
    """A store whose project has a due task, a paused one and four events."""
    await ports.subscribe(spec("due"), spec("paused", schedule=LATER))
    await ports.tasks.pause(PROJECT, "paused")
    await ports.tasks.resume(PROJECT, "paused")
    await ports.tasks.pause(PROJECT, "paused")
    return ports


@pytest.mark.parametrize("events", ["0", "1", "4", "oops", "nan", "inf", ""])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_feed_that_is_ahead_of_its_counter(
    ports_with_events: Ports, change: str, events: str
) -> None:
    """The counter came back from an older backup, or not at all: numbers go on behind those of the feed."""
    ports = ports_with_events
    await set_counter(ports, "events", events)

    await CHANGES[change](ports)

    raw = ports.raw()
    entries = parse(raw.databases[3][FEED].items or ())
    (fields,) = (raw.databases[0][project(PARTITION, PROJECT)].fields,)
    assert not list(number_faults(entries, int((fields or {})["events"])))
    assert entries[0].first_number == 1
    assert entries[-1].number > 5


async def test_a_counter_that_is_ahead_of_its_feed(ports_with_events: Ports) -> None:
    """The feed came back from an older backup: a reader at its end learns that events are missing."""
    ports = ports_with_events
    await set_counter(ports, "events", "50")
    await ports.tasks.cancel(PROJECT, "due")

    assert [event.number for event in (await ports.tasks.feed(PROJECT, 3, 10)).events] == [4, 5]
    with pytest.raises(CursorTooOld, match="after number 5 are missing"):
        await ports.tasks.feed(PROJECT, 5, 10)
    (last,) = (await ports.tasks.feed(PROJECT, 50, 10)).events
    assert (last.number, last.event.type) == (51, EventType.CANCELED)
    await ports.everywhere("FLUSHALL")


@pytest.mark.parametrize("change", CHANGES)
async def test_a_feed_that_is_no_stream(ports_with_events: Ports, change: str) -> None:
    ports = ports_with_events
    await in_database(ports, 3, FEED, "SET", "oops")

    await CHANGES[change](ports)

    entry = ports.raw().databases[3][FEED]
    assert entry.kind == "stream"


@pytest.mark.parametrize("change", CHANGES)
async def test_a_count_of_live_tasks_that_is_no_number(ports_with_events: Ports, change: str) -> None:
    ports = ports_with_events
    await set_counter(ports, "taskInQueue", "oops")

    await CHANGES[change](ports)

    fields = ports.raw().databases[0][project(PARTITION, PROJECT)].fields or {}
    assert abs(int(fields["taskInQueue"])) <= 2
    await ports.everywhere("FLUSHALL")
