"""Watches of the task "a", read item by item, and the events that they are to have."""

import contextlib
from collections.abc import AsyncIterator

from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.engine.watch import Synced, TaskEvent, WatchHub, WatchItem
from tests.engine.parts import Instance, instance, running, soon
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


@contextlib.asynccontextmanager
async def listening(ports: Ports) -> AsyncIterator[Instance]:
    """An engine that hears signals and dispatches nothing, and a paused task "a" with two events."""
    await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    await ports.tasks.pause(PROJECT, "a")
    async with instance(ports) as here, running(here.switchboard.run(), here.monitor.run()):
        await soon(here.monitor.caught_up())
        yield here


class Watch:
    """One watch, read item by item."""

    def __init__(self, hub: WatchHub, after: int | None = None, task_id: str = "a") -> None:
        self._items = hub.watch(PROJECT, task_id, after)
        self.latest: WatchItem

    async def next(self) -> WatchItem:
        self.latest = await soon(anext(self._items))
        return self.latest

    async def until_synced(self) -> list[WatchItem]:
        items = [await self.next()]
        while not isinstance(items[-1], Synced):
            items.append(await self.next())
        return items

    async def event(self) -> tuple[int, EventType]:
        item = await self.next()
        assert isinstance(item, TaskEvent)
        return item.sequence, item.event.type

    async def ends(self) -> bool:
        try:
            await self.next()
        except StopAsyncIteration:
            return True
        return False

    async def rest(self) -> list[WatchItem]:
        """Read what there is up to the end of the watch, which may be an error."""
        items: list[WatchItem] = []
        while not await self.ends():
            items.append(self.latest)
        return items

    async def leave(self) -> None:
        await self._items.aclose()


async def toggle(ports: Ports, times: int = 1) -> None:
    """Make two events, resumed and paused."""
    for _ in range(times):
        await ports.tasks.resume(PROJECT, "a")
        await ports.tasks.pause(PROJECT, "a")
