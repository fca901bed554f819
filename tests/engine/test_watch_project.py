"""Watching a project or a queue: missed events, synced, live events; no gap, one reading for all."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from kuueri_grpc.domain.errors import CursorTooOld, Draining, StoreUnavailable
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.engine import watch
from kuueri_grpc.engine.watch import Heartbeat, Synced, TaskEvent, WatchHub, WatchItem
from kuueri_grpc.ports import FeedSlice
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.tasks import RedisTaskStore
from tests.engine.parts import Instance, instance, listeners, running, soon
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


@pytest.fixture
async def here(ports: Ports) -> AsyncIterator[Instance]:
    """An engine that hears signals and dispatches nothing; a task "a" in queue "q" and "b" in "r".

    So there are two events before a test begins.
    """
    for task_id, queue in (("a", "q"), ("b", "r")):
        await ports.subscribe(spec(task_id, queue=queue, schedule=Schedule(delay_ms=HOUR_MS)))
    async with instance(ports) as here, running(here.switchboard.run(), here.monitor.run()):
        await soon(here.monitor.caught_up())
        yield here


class Counted(RedisTaskStore):
    """The real store; `reads` are the numbers that the feed was read after.

    What happens while the answer of a read is on its way back is the test's to say.
    """

    reads: list[int | None]
    meanwhile = staticmethod(lambda: asyncio.sleep(0))

    @classmethod
    def of(cls, ports: Ports) -> "Counted":
        store = cls(*ports.task_parts)
        store.reads = []
        return store

    async def feed(self, project_id: str, after_number: int | None, limit: int) -> FeedSlice:
        self.reads.append(after_number)
        answer = await super().feed(project_id, after_number, limit)
        await self.meanwhile()
        return answer


def hub_of(here: Instance, store: RedisTaskStore, heartbeat_ms: int = HOUR_MS) -> WatchHub:
    """Let the signals of an engine reach a hub of another store."""
    hub = WatchHub(store, here.bus, heartbeat_ms)
    here.switchboard._watches = hub
    here.monitor._watches = hub
    return hub


class Watch:
    """One watch, read item by item."""

    def __init__(self, hub: WatchHub, after: int | None = None, queue: str | None = None) -> None:
        self._items: AsyncGenerator[WatchItem, None] = hub.watch_project(PROJECT, queue, after)

    async def next(self) -> WatchItem:
        return await soon(anext(self._items))

    async def until_synced(self) -> list[int]:
        """The numbers of the events up to `Synced`, then its own."""
        items = [await self.next()]
        while not isinstance(items[-1], Synced):
            items.append(await self.next())
        return [item.sequence for item in items]

    async def numbers(self, count: int) -> list[int]:
        """The numbers of the next events."""
        items = [await self.next() for _ in range(count)]
        assert all(isinstance(item, TaskEvent) for item in items)
        return [item.sequence for item in items]

    async def leave(self) -> None:
        await self._items.aclose()


async def toggle(ports: Ports, task_id: str = "a", times: int = 1) -> None:
    """Make two events, paused and resumed."""
    for _ in range(times):
        await ports.tasks.pause(PROJECT, task_id)
        await ports.tasks.resume(PROJECT, task_id)


class TestPositions:
    async def test_without_one_it_tells_what_happens_from_now_on(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)
        assert await watch.until_synced() == [2]

        await toggle(ports)

        assert await watch.numbers(2) == [3, 4]
        await watch.leave()
        assert (await listeners(ports, here, None), here.hub.watchers) == (0, 0)

    @pytest.mark.parametrize("after", range(5))
    async def test_from_one_it_tells_all_that_was_missed(
        self, ports: Ports, here: Instance, after: int
    ) -> None:
        await toggle(ports)
        watch = Watch(here.hub, after)

        assert await watch.until_synced() == [*range(after + 1, 5), 4]

        await toggle(ports, "b")
        assert await watch.numbers(2) == [5, 6]
        await watch.leave()

    async def test_of_a_queue_the_position_moves_with_the_project(self, ports: Ports, here: Instance) -> None:
        await toggle(ports, "b")
        await toggle(ports, "a")
        watch = Watch(here.hub, 0, queue="q")

        assert await watch.until_synced() == [1, 5, 6, 6]

        await toggle(ports, "b")
        await toggle(ports, "a")
        assert await watch.numbers(2) == [9, 10]
        await watch.leave()

    async def test_of_a_queue_that_is_silent_heartbeats_move_on(self, ports: Ports, here: Instance) -> None:
        """Else a client would be left with a token that the feed has left behind."""
        watch = Watch(hub_of(here, ports.tasks, heartbeat_ms=5), queue="q")
        assert await watch.until_synced() == [2]

        await toggle(ports, "b", times=3)

        while (item := await watch.next()).sequence < 8:
            assert isinstance(item, Heartbeat)
        assert item == Heartbeat(8)
        await watch.leave()

    async def test_more_than_one_reading_gives(
        self, ports: Ports, here: Instance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "_FEED_PAGE", 3)
        await toggle(ports, times=10)
        one = Watch(here.hub, 0)

        assert await one.until_synced() == [*range(1, 23), 22]
        await toggle(ports, times=10)
        assert await one.numbers(20) == list(range(23, 43))
        await one.leave()

    async def test_one_that_is_still_to_come_is_refused(self, here: Instance) -> None:
        with pytest.raises(CursorTooOld):
            await Watch(here.hub, 3).next()
        assert here.hub.watchers == 0

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, feed_cap=10)])
    async def test_one_that_is_not_kept_any_more_is_refused(self, ports: Ports, here: Instance) -> None:
        """Both of a watch that begins, and of one that was not read for long."""
        slow = Watch(here.hub)
        await slow.until_synced()
        await toggle(ports, times=130)  # the store cuts by whole blocks of a hundred

        with pytest.raises(CursorTooOld):
            await Watch(here.hub, 2).next()
        with pytest.raises(CursorTooOld):
            await slow.numbers(260)
        assert here.hub.watchers == 0


class TestNoGap:
    async def test_events_between_the_first_reading_and_the_live_part(
        self, ports: Ports, here: Instance
    ) -> None:
        store = Counted.of(ports)
        store.meanwhile = lambda: toggle(ports)
        watch = Watch(hub_of(here, store), 0)

        seen: list[int] = []
        while len(seen) < 20:
            item = await watch.next()
            if isinstance(item, TaskEvent):
                seen.append(item.sequence)

        assert seen == list(range(1, 21))
        await watch.leave()

    async def test_after_the_connection_for_signals_broke(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)
        await watch.until_synced()
        for n in range(5):
            await ports.client.client_kill_filter(_type="pubsub")
            await toggle(ports)
            assert await watch.numbers(2) == [3 + 2 * n, 4 + 2 * n]
        await watch.leave()

    async def test_one_that_falls_behind_what_is_kept_for_all_reads_for_itself(
        self, ports: Ports, here: Instance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "_PROJECT_CAPACITY", 5)
        quick, slow = Watch(here.hub), Watch(here.hub)
        await quick.until_synced()
        await slow.until_synced()

        for n in range(10):
            await toggle(ports)
            assert await quick.numbers(2) == [3 + 2 * n, 4 + 2 * n]

        assert await slow.numbers(20) == list(range(3, 23))
        await toggle(ports)
        assert await slow.numbers(2) == await quick.numbers(2) == [23, 24]
        await quick.leave()
        await slow.leave()

    async def test_one_change_with_more_events_than_are_kept_for_all(
        self, ports: Ports, here: Instance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "_PROJECT_CAPACITY", 5)
        one = Watch(here.hub)
        await one.until_synced()

        await ports.subscribe(*(spec(f"t{n}", schedule=Schedule(delay_ms=HOUR_MS)) for n in range(50)))

        assert await one.numbers(50) == list(range(3, 53))
        await one.leave()


class TestSeveral:
    @pytest.mark.one_server("counts subscriptions, of one node")
    async def test_all_are_told_by_one_reading(self, ports: Ports, here: Instance) -> None:
        store = Counted.of(ports)
        hub = hub_of(here, store)
        watches = [Watch(hub, queue=queue) for queue in (None, "q", "r") for _ in range(20)]
        for one in watches:
            await one.until_synced()
        assert await listeners(ports, here, None) == 1  # one subscription, however many watch
        waiting = [asyncio.ensure_future(one.numbers(1)) for one in watches]
        await asyncio.sleep(0)
        store.reads.clear()

        await ports.tasks.pause(PROJECT, "a")
        await ports.tasks.pause(PROJECT, "b")

        told = await soon(asyncio.gather(*waiting))
        assert told == [[3]] * 40 + [[4]] * 20
        assert 1 <= len(store.reads) <= 2  # a reading for each signal at the most
        for one in watches:
            await one.leave()
        assert (await listeners(ports, here, None), hub.watchers) == (0, 0)

    async def test_one_who_leaves_does_not_deafen_the_other(self, ports: Ports, here: Instance) -> None:
        stays, leaves = Watch(here.hub), Watch(here.hub, queue="q")
        await stays.until_synced()
        await leaves.until_synced()

        await leaves.leave()
        await toggle(ports)

        assert await stays.numbers(2) == [3, 4]
        await stays.leave()


class TestDraining:
    async def test_every_watch_is_ended_at_its_place(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)
        await watch.until_synced()
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)

        here.hub.drain()

        with pytest.raises(Draining):
            await soon(waiting)
        with pytest.raises(Draining):
            await Watch(here.hub).next()
        assert (await listeners(ports, here, None), here.hub.watchers) == (0, 0)


async def test_without_a_connection_for_signals_it_is_an_outage(ports: Ports) -> None:
    async with instance(ports) as deaf:
        with pytest.raises(StoreUnavailable):
            await Watch(deaf.hub).next()
        assert deaf.hub.watchers == 0
