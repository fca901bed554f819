"""Follow a task live: snapshot, missed events, synced, then events as they happen."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from kuueri_grpc.domain.errors import Draining, TaskNotFound
from kuueri_grpc.domain.state import TERMINAL_STATES
from kuueri_grpc.domain.task import Task
from kuueri_grpc.domain.timeline import TERMINAL_EVENTS, TimelineEvent
from kuueri_grpc.ports import Changed, SignalBus, TaskStore

#: Events per read of a timeline.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The task as it was when the watch began. `sequence`: the position to resume from."""

    task: Task
    sequence: int


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event of the timeline."""

    event: TimelineEvent

    @property
    def sequence(self) -> int:
        """The position after this event."""
        return self.event.sequence


@dataclass(frozen=True, slots=True)
class Synced:
    """All that was missed has been told; what follows is live."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing has happened for a while."""

    sequence: int


WatchItem = Snapshot | TaskEvent | Synced | Heartbeat


class WatchHub:
    """All watches of this process, on one connection for signals.

    The timeline is the truth and a signal only says "look": a watch keeps a position and one flag,
    whatever its client's speed, and reads on from its position when the flag is set.
    """

    def __init__(self, store: TaskStore, bus: SignalBus, heartbeat_ms: int) -> None:
        self._store = store
        self._bus = bus
        self._heartbeat_ms = heartbeat_ms
        self._watchers: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._draining = False

    def changed(self, change: Changed) -> None:
        """Wake the watches of a task."""
        for flag in self._watchers.get((change.project_id, change.task_id), ()):
            flag.set()

    def wake_all(self) -> None:
        """Wake every watch: signals may have been missed."""
        for flags in self._watchers.values():
            for flag in flags:
                flag.set()

    def drain(self) -> None:
        """End every watch with `Draining`, and refuse new ones."""
        self._draining = True
        self.wake_all()

    async def watch(
        self, project_id: str, task_id: str, after_sequence: int | None
    ) -> AsyncIterator[WatchItem]:
        """Yield the task's snapshot, events after a sequence (None: all kept), `Synced`, then live events.

        Ends after the terminal event.

        Raises:
            TaskNotFound: no such task, also when it is purged while being watched.
            CursorTooOld: events after that sequence are not kept any more.
            Draining: the server is shutting down.
            StoreUnavailable: the store does not serve.
        """
        flag = asyncio.Event()
        # Listen first, read then: what happens in between is either read or signalled.
        await self._join(project_id, task_id, flag)
        try:
            async for item in self._follow(project_id, task_id, after_sequence or 0, flag):
                yield item
        finally:
            await self._leave(project_id, task_id, flag)

    async def _follow(
        self, project_id: str, task_id: str, position: int, flag: asyncio.Event
    ) -> AsyncIterator[WatchItem]:
        page = await self._store.timeline(project_id, task_id, position, _PAGE)
        yield Snapshot(page.task, position)
        born_ms = page.task.create_time_ms
        until = page.last_sequence
        while True:
            for event in page.events:
                position = event.sequence
                yield TaskEvent(event)
            if position >= until:
                break
            page = await self._store.timeline(project_id, task_id, position, _PAGE)
        yield Synced(position)
        ended = page.task.state in TERMINAL_STATES and position == page.last_sequence
        while not ended:
            if not await self._news(flag):
                yield Heartbeat(position)
                continue
            page = await self._store.timeline(project_id, task_id, position, _PAGE)
            if page.task.create_time_ms != born_ms:
                raise TaskNotFound(task_id)  # purged; there is another one of that id now
            for event in page.events:
                position = event.sequence
                ended = event.type in TERMINAL_EVENTS
                yield TaskEvent(event)
            if position < page.last_sequence:
                flag.set()

    async def _news(self, flag: asyncio.Event) -> bool:
        """Return True when the flag is set, False after a time of silence. Raises `Draining`."""
        try:
            async with asyncio.timeout(self._heartbeat_ms / 1_000):
                await flag.wait()
        except TimeoutError:
            return False
        if self._draining:
            raise Draining
        flag.clear()
        return True

    async def _join(self, project_id: str, task_id: str, flag: asyncio.Event) -> None:
        if self._draining:
            raise Draining
        self._watchers.setdefault((project_id, task_id), set()).add(flag)
        try:
            await self._bus.follow(project_id, task_id)
        except BaseException:
            self._forget(project_id, task_id, flag)
            raise

    async def _leave(self, project_id: str, task_id: str, flag: asyncio.Event) -> None:
        self._forget(project_id, task_id, flag)
        await self._bus.unfollow(project_id, task_id)

    def _forget(self, project_id: str, task_id: str, flag: asyncio.Event) -> None:
        flags = self._watchers[project_id, task_id]
        flags.discard(flag)
        if not flags:
            del self._watchers[project_id, task_id]
