"""The first event of a task waits in its record until there is a second: nobody who reads can tell."""

from collections.abc import Awaitable, Callable

import pytest

from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.store.keys import partition_of
from tests.store import raw, timelines
from tests.store.ports import HOUR_MS, PROJECT, Ports, report, spec

LATER = Schedule(delay_ms=HOUR_MS)
NAME = f"{PROJECT}/waits"


async def _claimed(ports: Ports) -> None:
    await ports.tasks.run(PROJECT, "waits")
    claim = await ports.take("waits")
    assert await ports.execution.report([report(claim.lease, Trigger.COMPLETE)]) == [True]


async def _paused(ports: Ports) -> None:
    await ports.tasks.pause(PROJECT, "waits")
    await ports.tasks.resume(PROJECT, "waits")


#: What becomes of the task, and what its timeline says besides SUBSCRIBED then.
WAYS: dict[str, tuple[Callable[[Ports], Awaitable[object]], list[EventType]]] = {
    "claim": (_claimed, [EventType.DISPATCHED, EventType.SUCCEEDED, EventType.COMPLETED]),
    "cancel": (lambda ports: ports.tasks.cancel(PROJECT, "waits"), [EventType.CANCELED]),
    "pause": (_paused, [EventType.PAUSED, EventType.RESUMED]),
    "run": (lambda ports: ports.tasks.run(PROJECT, "waits"), []),
}


def _key(family: str) -> str:
    return f"{{{partition_of(PROJECT, 4)}}}:{family}:{NAME}"


def _events_kept(ports: Ports) -> list[timelines.Event] | None:
    entry = raw.read(ports.url).databases[3].get(_key("timeline"))
    return None if entry is None else timelines.parse(entry.items or ())


async def _unfold_as_the_version_before(ports: Ports) -> None:
    """Put the first event where the version before puts it at once."""
    kept = raw.read(ports.url).databases[1][_key("task")].fields or {}
    line = timelines.subscribed(kept["create"], kept["due"])
    await ports.run_in(3, "redis.call('RPUSH', KEYS[1], ARGV[1])", [_key("timeline")], line)
    await ports.run_in(1, "redis.call('HSET', KEYS[1], 'seq', 1)", [_key("task")])


async def test_it_is_on_no_timeline_while_the_task_waits(ports: Ports) -> None:
    (task,) = await ports.subscribe(spec("waits", schedule=LATER))

    told = await ports.tasks.timeline(PROJECT, "waits", 0, 10)

    (event,) = told.events
    assert (event.sequence, event.type) == (1, EventType.SUBSCRIBED)
    assert (event.create_time_ms, event.next_time_ms) == (task.create_time_ms, task.schedule_time_ms)
    assert (told.first_sequence, told.last_sequence, told.task.sequence) == (1, 1, 1)
    assert not (await ports.tasks.timeline(PROJECT, "waits", 1, 10)).events
    assert _events_kept(ports) is None


@pytest.mark.parametrize("form", ["this version", "the version before"])
@pytest.mark.parametrize("way", WAYS)
async def test_it_comes_first_whatever_becomes_of_the_task(ports: Ports, way: str, form: str) -> None:
    await ports.subscribe(spec("waits", schedule=LATER))
    if form == "the version before":
        await _unfold_as_the_version_before(ports)
    (first,) = (await ports.tasks.timeline(PROJECT, "waits", 0, 10)).events
    become, followed_by = WAYS[way]

    await become(ports)

    told = await ports.tasks.timeline(PROJECT, "waits", 0, 10)
    assert told.events[0] == first
    assert [event.type for event in told.events[1:]] == followed_by
    assert [event.sequence for event in told.events] == list(range(1, len(told.events) + 1))
    assert [event["n"] for event in _events_kept(ports) or ()] == [event.sequence for event in told.events]


async def test_a_start_deadline_that_passed(ports: Ports) -> None:
    await ports.subscribe(spec("waits", schedule=Schedule(delay_ms=0, start_deadline_ms=0)))
    await ports.until(await ports.now_ms() + 2)

    assert not await ports.claim()

    told = await ports.tasks.timeline(PROJECT, "waits", 0, 10)
    assert [event.type for event in told.events] == [EventType.SUBSCRIBED, EventType.EXPIRED]


async def test_the_feed_tells_of_it_at_once(ports: Ports) -> None:
    (task,) = await ports.subscribe(spec("waits", schedule=LATER))

    (told,) = (await ports.tasks.feed(PROJECT, 0, 10)).events

    assert told.event == (await ports.tasks.timeline(PROJECT, "waits", 0, 10)).events[0]
    assert (told.number, told.queue, told.event.task_id) == (1, "default", task.spec.task_id)
