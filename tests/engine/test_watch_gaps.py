"""Watching a task whose timeline is too long to be kept whole: what is missing is told, or it is refused."""

from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.errors import CursorTooOld
from kuueri_grpc.domain.timeline import EventType, TimelineGap
from kuueri_grpc.engine.watch import Gap, Synced, TaskEvent, WatchItem
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import Instance
from tests.engine.watches import Watch, listening, toggle
from tests.store.ports import PROJECT, Ports

#: Of 12 events, the first one and 9 to 12 are kept.
pytestmark = pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, timeline_cap=5)])
TIMES = 5


@pytest.fixture
async def here(ports: Ports) -> AsyncIterator[Instance]:
    async with listening(ports) as here:
        yield here


def shown(items: list[WatchItem]) -> list[object]:
    return [item.gap if isinstance(item, Gap) else item.sequence for item in items]


async def test_a_new_watch_has_the_beginning_the_gap_and_the_end(ports: Ports, here: Instance) -> None:
    await toggle(ports, TIMES)
    watch = Watch(here.hub)

    items = await watch.until_synced()

    assert shown(items) == [0, 1, TimelineGap(2, 8), 9, 10, 11, 12, 12]
    assert isinstance(items[1], TaskEvent)
    assert items[1].event.type is EventType.SUBSCRIBED
    await toggle(ports)
    assert [(await watch.event())[0] for _ in range(2)] == [13, 14]
    await watch.leave()


async def test_it_goes_on_behind_the_gap(ports: Ports, here: Instance) -> None:
    await toggle(ports, TIMES)
    first = Watch(here.hub)
    gap = next(item for item in await first.until_synced() if isinstance(item, Gap))
    assert gap.sequence == 8

    second = Watch(here.hub, gap.sequence)

    assert shown(await second.until_synced()) == [8, 9, 10, 11, 12, 12]
    await first.leave()
    await second.leave()


@pytest.mark.parametrize("after", range(1, 8))
async def test_a_position_before_the_gap_s_end_is_refused(ports: Ports, here: Instance, after: int) -> None:
    """A watch that resumes has every event, or none: also where the next one is still there."""
    await toggle(ports, TIMES)

    with pytest.raises(CursorTooOld, match=f"after sequence {after} are not kept any more; all are from 9"):
        await Watch(here.hub, after).next()


async def test_a_watch_that_is_too_slow_is_refused(ports: Ports, here: Instance) -> None:
    watch = Watch(here.hub)
    await watch.until_synced()
    await toggle(ports, TIMES)

    with pytest.raises(CursorTooOld):
        await watch.next()


async def test_a_gap_that_grows_under_a_new_watch(ports: Ports, here: Instance) -> None:
    """It is refused where it would have to say twice that events are missing."""
    await toggle(ports, TIMES)
    watch = Watch(here.hub)
    assert shown([await watch.next() for _ in range(4)]) == [0, 1, TimelineGap(2, 8), 9]
    await toggle(ports, TIMES)

    with pytest.raises(CursorTooOld):
        await watch.rest()


async def test_the_end_of_a_task_that_has_a_gap(ports: Ports, here: Instance) -> None:
    await toggle(ports, TIMES)
    await ports.tasks.cancel(PROJECT, "a")
    watch = Watch(here.hub)

    assert shown(await watch.until_synced()) == [0, 1, TimelineGap(2, 9), 10, 11, 12, 13, 13]
    assert await watch.ends()


async def test_an_ended_task_without_a_gap_has_none(ports: Ports, here: Instance) -> None:
    await toggle(ports)
    await ports.tasks.cancel(PROJECT, "a")
    watch = Watch(here.hub)

    items = await watch.until_synced()

    assert shown(items) == [0, *range(1, 6), 5]
    assert items[-1] == Synced(5)
