"""Watching a task: snapshot, missed events, synced, live events, to the end, without a gap."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.errors import CursorTooOld, Draining, StoreUnavailable, TaskNotFound
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.engine.watch import Heartbeat, Snapshot, Synced, TaskEvent, WatchHub
from kuueri_grpc.ports import TimelineSlice
from kuueri_grpc.store.tasks import RedisTaskStore
from tests.engine.parts import Instance, instance, listeners, running, soon
from tests.engine.watches import Watch, listening, toggle
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


@pytest.fixture
async def here(ports: Ports) -> AsyncIterator[Instance]:
    async with listening(ports) as here:
        yield here


class TestOrder:
    async def test_snapshot_missed_events_synced(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)

        snapshot, *events, synced = await watch.until_synced()

        assert snapshot == Snapshot(await ports.tasks.get(PROJECT, "a"), 0)
        assert [(e.sequence, e.event.type) for e in events if isinstance(e, TaskEvent)] == [
            (1, EventType.SUBSCRIBED),
            (2, EventType.PAUSED),
        ]
        assert synced == Synced(2)
        await watch.leave()

    async def test_then_live_events_to_the_last_one(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)
        await watch.until_synced()

        await ports.tasks.run(PROJECT, "a")
        assert await watch.event() == (3, EventType.RESUMED)
        claim = await ports.take("a")
        assert await watch.event() == (4, EventType.DISPATCHED)
        await ports.report(claim.lease, Trigger.COMPLETE)
        assert await watch.event() == (5, EventType.SUCCEEDED)
        assert await watch.event() == (6, EventType.COMPLETED)
        assert await watch.ends()
        assert await listeners(ports, here, "a") == 0

    @pytest.mark.parametrize("after", [None, 0, 1, 2, 3])
    async def test_an_ended_task_is_told_and_done(
        self, ports: Ports, here: Instance, after: int | None
    ) -> None:
        await ports.tasks.cancel(PROJECT, "a")
        watch = Watch(here.hub, after)

        snapshot, *events, synced = await watch.until_synced()

        assert isinstance(snapshot, Snapshot)
        assert (snapshot.task.state, snapshot.sequence) == (TaskState.CANCELED, after or 0)
        assert [event.sequence for event in events] == list(range((after or 0) + 1, 4))
        assert synced == Synced(3)
        assert await watch.ends()

    async def test_more_events_than_one_read_gives(self, ports: Ports, here: Instance) -> None:
        await toggle(ports, 600)
        watch = Watch(here.hub)

        items = await watch.until_synced()

        assert [item.sequence for item in items] == [0, *range(1, 1_203), 1_202]
        await toggle(ports, 600)
        for sequence in range(1_203, 2_403):
            assert (await watch.event())[0] == sequence
        await watch.leave()


class TestResume:
    @pytest.mark.parametrize("after", [0, 1, 2])
    async def test_from_a_position(self, ports: Ports, here: Instance, after: int) -> None:
        watch = Watch(here.hub, after)

        items = await watch.until_synced()

        assert [item.sequence for item in items] == [after, *range(after + 1, 3), 2]
        await toggle(ports)
        assert await watch.event() == (3, EventType.RESUMED)
        await watch.leave()

    async def test_from_every_item_of_a_watch_nothing_is_missed_or_repeated(
        self, ports: Ports, here: Instance
    ) -> None:
        await toggle(ports, 3)
        first = Watch(here.hub)
        for item in await first.until_synced():
            second = Watch(here.hub, item.sequence)
            resumed = [one.sequence for one in await second.until_synced() if isinstance(one, TaskEvent)]
            assert resumed == list(range(item.sequence + 1, 9))
            await second.leave()
        await first.leave()

    async def test_a_position_that_the_task_has_not_reached(self, here: Instance) -> None:
        with pytest.raises(CursorTooOld):
            await Watch(here.hub, 3).next()

    async def test_no_such_task(self, ports: Ports, here: Instance) -> None:
        with pytest.raises(TaskNotFound):
            await Watch(here.hub, task_id="never-was").next()
        assert here.hub.watchers == 0


class SlowReads(RedisTaskStore):
    """The real store; what happens while a read's answer is on its way back is the test's to say."""

    meanwhile = staticmethod(lambda: asyncio.sleep(0))

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        answer = await super().timeline(project_id, task_id, after_sequence, limit)
        await self.meanwhile()
        return answer


class TestNoGap:
    async def test_events_between_the_snapshot_and_the_live_part(self, ports: Ports, here: Instance) -> None:
        store = SlowReads(*ports.task_parts)
        hub = WatchHub(store, here.bus, HOUR_MS)
        here.switchboard._watches = hub
        store.meanwhile = lambda: toggle(ports)
        watch = Watch(hub)
        snapshot = await watch.next()
        store.meanwhile = lambda: asyncio.sleep(0)

        assert isinstance(snapshot, Snapshot)
        assert snapshot.task.sequence == 2
        assert [(await watch.next()).sequence for _ in range(2)] == [1, 2]
        assert await watch.next() == Synced(2)
        assert [await watch.event() for _ in range(2)] == [(3, EventType.RESUMED), (4, EventType.PAUSED)]
        await watch.leave()

    async def test_the_last_event_right_after_the_snapshot(self, ports: Ports, here: Instance) -> None:
        store = SlowReads(*ports.task_parts)
        hub = WatchHub(store, here.bus, HOUR_MS)
        here.switchboard._watches = hub
        store.meanwhile = lambda: ports.tasks.cancel(PROJECT, "a")  # type: ignore[assignment, return-value]
        watch = Watch(hub)

        assert [item.sequence for item in await watch.until_synced()] == [0, 1, 2, 2]
        assert await watch.event() == (3, EventType.CANCELED)
        assert await watch.ends()

    async def test_while_events_never_stop(self, ports: Ports, here: Instance) -> None:
        async def go_on() -> None:
            while True:
                await toggle(ports)

        async with running(go_on()):
            watches = [Watch(here.hub) for _ in range(5)]
            for watch in watches:
                seen: list[int] = []
                while len(seen) < 100:
                    item = await watch.next()
                    if isinstance(item, TaskEvent):
                        seen.append(item.sequence)
                assert seen == list(range(1, 101))
                await watch.leave()

    async def test_after_the_connection_for_signals_broke(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)
        await watch.until_synced()
        for n in range(5):
            await ports.client.client_kill_filter(_type="pubsub")
            await toggle(ports)
            assert [(await watch.event())[0] for _ in range(2)] == [3 + 2 * n, 4 + 2 * n]
        await watch.leave()


class TestSeveral:
    @pytest.mark.one_server("counts subscriptions, of one node")
    async def test_all_are_told(self, ports: Ports, here: Instance) -> None:
        watches = [Watch(here.hub) for _ in range(20)]
        for watch in watches:
            await watch.until_synced()
        assert await listeners(ports, here, "a") == 1  # one subscription, however many watch

        await toggle(ports)

        for watch in watches:
            assert [(await watch.event())[0] for _ in range(2)] == [3, 4]
            await watch.leave()
        assert await listeners(ports, here, "a") == 0

    async def test_one_who_leaves_does_not_deafen_the_other(self, ports: Ports, here: Instance) -> None:
        stays, leaves = Watch(here.hub), Watch(here.hub)
        await stays.until_synced()
        await leaves.until_synced()

        await leaves.leave()
        await toggle(ports)

        assert await stays.event() == (3, EventType.RESUMED)
        await stays.leave()

    @pytest.mark.parametrize("steps", range(6))
    async def test_one_who_gives_up_while_joining_does_not_deafen_the_other(
        self, ports: Ports, here: Instance, steps: int
    ) -> None:
        stays = Watch(here.hub)
        await stays.until_synced()
        joining = asyncio.ensure_future(Watch(here.hub).next())
        for _ in range(steps):
            await asyncio.sleep(0)
        joining.cancel()
        await asyncio.wait([joining])

        await toggle(ports)

        assert await stays.event() == (3, EventType.RESUMED)
        await stays.leave()
        assert await listeners(ports, here, "a") == 0

    @pytest.mark.parametrize("steps", range(6))
    async def test_leaving_while_another_joins(self, ports: Ports, here: Instance, steps: int) -> None:
        leaves, joins = Watch(here.hub), Watch(here.hub)
        await leaves.until_synced()
        leaving = asyncio.ensure_future(leaves.leave())
        for _ in range(steps):
            await asyncio.sleep(0)
        await joins.until_synced()
        await soon(leaving)

        await toggle(ports)

        assert await joins.event() == (3, EventType.RESUMED)
        await joins.leave()
        assert await listeners(ports, here, "a") == 0

    async def test_watches_of_different_tasks_do_not_wake_each_other(
        self, ports: Ports, here: Instance
    ) -> None:
        await ports.subscribe(spec("b", schedule=Schedule(delay_ms=HOUR_MS)))
        a, b = Watch(here.hub), Watch(here.hub, task_id="b")
        await a.until_synced()
        await b.until_synced()
        of_b = asyncio.ensure_future(b.next())

        await toggle(ports)
        assert await a.event() == (3, EventType.RESUMED)
        assert not of_b.done()

        await ports.tasks.pause(PROJECT, "b")
        assert (await soon(of_b)).sequence == 2
        await a.leave()
        await b.leave()


async def test_silence_is_broken_by_heartbeats(ports: Ports, here: Instance) -> None:
    hub = WatchHub(ports.tasks, here.bus, heartbeat_ms=5)
    here.switchboard._watches = hub
    watch = Watch(hub)
    await watch.until_synced()

    assert [await watch.next() for _ in range(3)] == [Heartbeat(2)] * 3

    await toggle(ports)
    while isinstance(item := await watch.next(), Heartbeat):
        assert item == Heartbeat(2)
    assert item.sequence == 3
    assert (await watch.event())[0] == 4
    assert await watch.next() == Heartbeat(4)
    await watch.leave()


class TestDraining:
    async def test_every_watch_is_ended_at_its_place(self, ports: Ports, here: Instance) -> None:
        watch = Watch(here.hub)
        await watch.until_synced()
        waiting = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0)

        here.hub.drain()

        with pytest.raises(Draining):
            await soon(waiting)
        assert await listeners(ports, here, "a") == 0

    async def test_new_ones_are_refused(self, here: Instance) -> None:
        here.hub.drain()

        with pytest.raises(Draining):
            await Watch(here.hub).next()
        assert here.hub.watchers == 0


async def test_without_a_connection_for_signals_it_is_an_outage(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    async with instance(ports) as deaf:
        with pytest.raises(StoreUnavailable):
            await Watch(deaf.hub).next()
        assert deaf.hub.watchers == 0


async def test_what_is_no_watched_task_s_wakes_nobody(here: Instance) -> None:
    here.hub.wake_all()
    watch = Watch(here.hub)
    await watch.until_synced()
    here.hub.wake_all()
    waiting = asyncio.ensure_future(watch.next())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()  # it looked, found nothing, and waits again
    waiting.cancel()
    await asyncio.wait([waiting])
