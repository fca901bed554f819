"""A task that is purged while it is watched: it has an end, and the watch too."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.errors import CursorTooOld, TaskNotFound
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType, Reason, TimelineEvent
from kuueri_grpc.engine.watch import Synced, TaskEvent, WatchHub, WatchItem
from kuueri_grpc.ports import TimelineSlice
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.tasks import RedisTaskStore
from tests.engine.parts import Instance, soon
from tests.engine.watches import Watch, listening, toggle
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

LATER = Schedule(delay_ms=HOUR_MS)


@pytest.fixture
async def here(ports: Ports) -> AsyncIterator[Instance]:
    async with listening(ports) as here:
        yield here


async def test_the_watch_of_a_paused_task_ends_with_canceled(ports: Ports, here: Instance) -> None:
    watches = [Watch(here.hub) for _ in range(3)]
    for watch in watches:
        await watch.until_synced()

    await ports.tasks.purge(PROJECT, "a")

    for watch in watches:
        item = await watch.next()
        assert isinstance(item, TaskEvent)
        assert (item.sequence, item.event.type, item.event.reason) == (
            3,
            EventType.CANCELED,
            Reason.BY_REQUEST,
        )
        assert await watch.ends()
    with pytest.raises(TaskNotFound):
        await Watch(here.hub).next()
    with pytest.raises(TaskNotFound):
        await Watch(here.hub, after=3).next()


@pytest.mark.parametrize("queue", ["default", None])
async def test_watches_of_its_queue_and_of_all_tasks_have_it_too(
    ports: Ports, here: Instance, queue: str | None
) -> None:
    items = here.hub.watch_project(PROJECT, queue, None)
    assert isinstance(await soon(anext(items)), Synced)

    await ports.tasks.purge(PROJECT, "a")

    item = await soon(anext(items))
    assert isinstance(item, TaskEvent)
    assert (item.event.task_id, item.event.sequence, item.event.type) == ("a", 3, EventType.CANCELED)
    await items.aclose()


async def test_a_purge_right_after_the_end(ports: Ports, here: Instance) -> None:
    """The watch has not read the last events yet when their record is gone."""
    watch = Watch(here.hub)
    await watch.until_synced()

    await ports.tasks.run(PROJECT, "a")
    await ports.report((await ports.take("a")).lease, Trigger.COMPLETE)
    await ports.tasks.purge(PROJECT, "a")

    told = [(await watch.event())[1] for _ in range(4)]
    assert told == [EventType.RESUMED, EventType.DISPATCHED, EventType.SUCCEEDED, EventType.COMPLETED]
    assert await watch.ends()


@pytest.mark.parametrize("events", [1, 2, 3, 4])
async def test_a_new_task_of_that_id_is_not_told_as_the_old_one(
    ports: Ports, here: Instance, events: int
) -> None:
    """However many events it has by then: the old one had three."""
    watch = Watch(here.hub)
    await watch.until_synced()

    await ports.tasks.purge(PROJECT, "a")
    await ports.until(await ports.now_ms() + 1)  # the time of its creation tells the new one from the old one
    await ports.subscribe(spec("a", schedule=LATER))
    for command in (ports.tasks.pause, ports.tasks.resume, ports.tasks.pause)[: events - 1]:
        await command(PROJECT, "a")

    assert await watch.event() == (3, EventType.CANCELED)
    assert await watch.ends()


class Interrupted(RedisTaskStore):
    """The real store; before each page of a timeline comes what the test wants."""

    meanwhile = staticmethod(lambda: asyncio.sleep(0))

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        await self.meanwhile()
        return await super().timeline(project_id, task_id, after_sequence, limit)


@pytest.mark.parametrize("end", ["purge", "cancel"])
async def test_an_end_while_the_first_events_are_read(ports: Ports, here: Instance, end: str) -> None:
    """In the middle of a timeline of several pages."""
    await toggle(ports, 300)
    store = Interrupted(*ports.task_parts)
    hub = WatchHub(store, here.bus, HOUR_MS)
    here.switchboard._watches = hub
    watch = Watch(hub)
    items: list[WatchItem] = [await watch.next() for _ in range(501)]

    await getattr(ports.tasks, end)(PROJECT, "a")
    items += await watch.until_synced()

    assert [item.sequence for item in items] == [0, *range(1, 604), 603]
    assert await watch.ends()


async def test_events_that_are_not_kept_for_a_purged_task(ports: Ports, here: Instance) -> None:
    """Its latest thousand are: a watch that is further behind learns that it is gone, and nothing else."""
    await toggle(ports, 750)
    watch = Watch(here.hub)
    for _ in range(10):
        await watch.next()
    await ports.tasks.purge(PROJECT, "a")

    with pytest.raises(TaskNotFound):
        await watch.rest()
    assert watch.latest.sequence == 500


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, timeline_cap=5)])
async def test_a_position_that_is_too_old_stays_one(ports: Ports, here: Instance) -> None:
    watch = Watch(here.hub)
    await watch.until_synced()
    await toggle(ports, 5)

    with pytest.raises(CursorTooOld):
        await watch.next()


async def test_what_is_kept_of_it_expires(ports: Ports) -> None:
    (task,) = await ports.subscribe(spec("a", schedule=LATER))
    await ports.tasks.pause(PROJECT, "a")
    await ports.tasks.purge(PROJECT, "a")

    async def events(create_time_ms: int, after: int) -> list[TimelineEvent]:
        return list((await ports.tasks.purged_timeline(PROJECT, "a", create_time_ms, after))[0])

    kept = await events(task.create_time_ms, 0)
    assert [event.type for event in kept] == [EventType.SUBSCRIBED, EventType.PAUSED, EventType.CANCELED]
    assert await events(task.create_time_ms, 2) == kept[2:]
    with pytest.raises(TaskNotFound):
        await events(task.create_time_ms + 1, 0)
    raw = ports.raw()
    (key,) = (key for _, key in raw.names() if f"/a/{task.create_time_ms}" in key)
    expires_ms = raw.databases[1][key].expires_ms
    assert expires_ms is not None
    assert expires_ms <= raw.now_ms + 60_000
