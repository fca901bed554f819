"""The feed of a project: all events of all its tasks, numbered without gaps, for as long as they are kept."""

import asyncio

import pytest

from kuueri_grpc.domain.errors import CursorTooOld
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.ports import FeedEvent
from kuueri_grpc.store.settings import StoreSettings
from tests.store.drive import drive
from tests.store.ports import HOUR_MS, PROJECT, Ports, report, spec

CAP = 10
HISTORY_MS = 40
#: The store cuts a stream by whole blocks, of a hundred entries at the most.
MANY = CAP + 250

one_partition = pytest.mark.parametrize("store_settings", [StoreSettings(partitions=1)], ids=["1 partition"])
short_feed = pytest.mark.parametrize(
    "store_settings", [StoreSettings(partitions=4, feed_cap=CAP)], ids=[f"{CAP} events"]
)
short_history = pytest.mark.parametrize(
    "store_settings", [StoreSettings(partitions=4, history_ms=HISTORY_MS)], ids=["short history"]
)


async def whole(ports: Ports, project_id: str = PROJECT) -> list[FeedEvent]:
    return list((await ports.tasks.feed(project_id, 0, 10_000)).events)


async def toggle(ports: Ports, task_id: str, times: int) -> None:
    """Make events of a waiting task, one entry each."""
    for n in range(times):
        await (ports.tasks.resume if n % 2 else ports.tasks.pause)(PROJECT, task_id)


async def test_it_tells_what_the_timelines_of_all_tasks_tell(ports: Ports) -> None:
    driven = [await drive(ports, state) for state in TaskState]
    await ports.subscribe(spec("elsewhere", queue="orders"))

    feed = await whole(ports)

    assert [item.number for item in feed] == list(range(1, len(feed) + 1))
    for task_id in (*(each.task_id for each in driven), "elsewhere"):
        timeline = await ports.tasks.timeline(PROJECT, task_id, 0, 100)
        of_task = [item for item in feed if item.event.task_id == task_id]
        assert [item.event for item in of_task] == list(timeline.events)
        assert {item.queue for item in of_task} == {timeline.task.spec.queue}


async def test_a_project_s_feed_has_its_own_events_alone(ports: Ports) -> None:
    other = await ports.create_project("project1111111111")
    await ports.subscribe(spec("mine"))
    await ports.subscribe(spec("theirs"), project_id=other)

    assert [(item.number, item.event.task_id) for item in await whole(ports)] == [(1, "mine")]
    assert [(item.number, item.event.task_id) for item in await whole(ports, other)] == [(1, "theirs")]


@one_partition
async def test_one_claim_of_tasks_of_several_projects_is_told_to_each(ports: Ports) -> None:
    other = await ports.create_project("project1111111111")
    for project in (PROJECT, other):
        await ports.subscribe(spec("a"), spec("b"), project_id=project)

    claims = await ports.claim()
    await ports.execution.report([report(claim.lease, Trigger.COMPLETE) for claim in claims])

    for project in (PROJECT, other):
        feed = await whole(ports, project)
        assert [item.number for item in feed] == list(range(1, 9))
        assert [item.event.type for item in feed[2:4]] == [EventType.DISPATCHED] * 2


async def test_it_is_read_from_any_number_in_pages(ports: Ports) -> None:
    """A page holds entries; a position in the midst of one is a position all the same."""
    await ports.subscribe(*(spec(f"t{n}") for n in range(5)))
    claims = await ports.claim()
    await ports.execution.report([report(claim.lease, Trigger.COMPLETE) for claim in claims])
    feed = await whole(ports)
    assert len(feed) == 20

    for after in range(21):
        first = await ports.tasks.feed(PROJECT, after, 1)
        assert first.last_number == 20
        entry_end = next((end for end in (5, 10, 20) if end > after), 20)
        assert list(first.events) == feed[after:entry_end]
        assert list((await ports.tasks.feed(PROJECT, after, 10)).events) == feed[after:]


async def test_without_a_number_it_tells_the_latest_alone(ports: Ports) -> None:
    nothing = await ports.tasks.feed(PROJECT, None, 10)
    assert (list(nothing.events), nothing.last_number) == ([], 0)
    await ports.subscribe(spec("a"), spec("b"))

    latest = await ports.tasks.feed(PROJECT, None, 10)

    assert (list(latest.events), latest.last_number) == ([], 2)


async def test_a_project_without_events(ports: Ports) -> None:
    empty = await ports.tasks.feed(PROJECT, 0, 10)

    assert (list(empty.events), empty.last_number) == ([], 0)


async def test_a_number_that_is_still_to_come_is_of_other_data(ports: Ports) -> None:
    await ports.subscribe(spec("a"))

    with pytest.raises(CursorTooOld, match="has 1 events, none after number 2: the store has lost"):
        await ports.tasks.feed(PROJECT, 2, 10)


async def test_it_goes_on_after_a_purge(ports: Ports) -> None:
    driven = await drive(ports, TaskState.COMPLETED)
    before = await whole(ports)

    await ports.tasks.purge(PROJECT, driven.task_id)

    assert await whole(ports) == before
    await ports.subscribe(spec(driven.task_id))
    added = (await whole(ports))[len(before) :]
    assert [(item.number, item.event.sequence, item.event.type) for item in added] == [
        (len(before) + 1, 1, EventType.SUBSCRIBED)
    ]


async def test_commands_at_the_same_time_are_numbered_one_by_one(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}", schedule=Schedule(delay_ms=HOUR_MS)) for n in range(20)))

    await asyncio.gather(*(ports.tasks.pause(PROJECT, f"t{n}") for n in range(20)))

    feed = await whole(ports)
    assert [item.number for item in feed] == list(range(1, 41))
    assert {item.event.task_id for item in feed[20:]} == {f"t{n}" for n in range(20)}


@short_feed
async def test_it_keeps_the_newest_events_and_refuses_a_position_before_them(ports: Ports) -> None:
    await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    await toggle(ports, "a", MANY - 1)

    with pytest.raises(
        CursorTooOld, match=r"after number 0 are not kept any more; the oldest is \d+"
    ) as told:
        await ports.tasks.feed(PROJECT, 0, 1_000)

    oldest = int(str(told.value).rpartition(" ")[2])
    assert 1 < oldest <= MANY - CAP + 1
    kept = await ports.tasks.feed(PROJECT, oldest - 1, 1_000)
    assert [item.number for item in kept.events] == list(range(oldest, MANY + 1))
    with pytest.raises(CursorTooOld):
        await ports.tasks.feed(PROJECT, oldest - 2, 1_000)


@short_history
async def test_when_it_has_expired_numbers_go_on(ports: Ports) -> None:
    await ports.subscribe(spec("a"), spec("b"))
    await ports.until(await ports.now_ms() + HISTORY_MS + 1)

    with pytest.raises(CursorTooOld, match="after number 1 are not kept any more; the oldest is 3"):
        await ports.tasks.feed(PROJECT, 1, 10)
    assert (await ports.tasks.feed(PROJECT, 2, 10)).last_number == 2

    await ports.subscribe(spec("c"))
    assert (await ports.tasks.feed(PROJECT, None, 10)).last_number == 3
