"""Follow tasks live: snapshot, missed events, synced, then events as they happen."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from kuueri_grpc.domain.errors import Draining, TaskNotFound
from kuueri_grpc.domain.state import TERMINAL_STATES
from kuueri_grpc.domain.task import Task
from kuueri_grpc.domain.timeline import TERMINAL_EVENTS, TimelineEvent
from kuueri_grpc.engine.tail import FellBehind, Item, Tail
from kuueri_grpc.engine.topics import Topics
from kuueri_grpc.ports import Changed, FeedEvent, SignalBus, TaskStore

#: Events per reading of a timeline, and entries (each of up to a few hundred events) per reading of a feed.
_PAGE = 500
_FEED_PAGE = 20
#: Events that are kept for all followers of one task, and of one project.
_TASK_CAPACITY = 500
_PROJECT_CAPACITY = 1_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The task as it was when the watch began. `sequence`: the position to resume from."""

    task: Task
    sequence: int


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened. `sequence`: the position after it, on the timeline or in the feed."""

    event: TimelineEvent
    sequence: int


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

    Timelines and feeds are the truth and a signal only says "look". What one watch reads is kept for
    the others; a watch itself is no more than a position, whatever its client's speed.
    """

    def __init__(self, store: TaskStore, bus: SignalBus, heartbeat_ms: int) -> None:
        self._store = store
        self._topics = Topics(bus)
        self._heartbeat_ms = heartbeat_ms

    @property
    def watchers(self) -> int:
        """How many watches there are."""
        return self._topics.followers

    def changed(self, change: Changed) -> None:
        """Tell the watches of a task or a project that there is news."""
        self._topics.changed(change)

    def wake_all(self) -> None:
        """Let every watch look: signals may have been missed."""
        self._topics.all_changed()

    def drain(self) -> None:
        """End every watch with `Draining`, and refuse new ones."""
        self._topics.close(Draining)

    async def watch(
        self, project_id: str, task_id: str, after_sequence: int | None
    ) -> AsyncGenerator[WatchItem, None]:
        """Yield the task's snapshot, events after a sequence (None: all kept), `Synced`, then live events.

        Ends after the terminal event.

        Raises:
            TaskNotFound: no such task, also when it is purged while being watched.
            CursorTooOld: events after that sequence are not kept any more.
            Draining: the server is shutting down.
            StoreUnavailable: the store does not serve.
        """
        watched: Task | None = None

        async def read(after: int) -> tuple[Sequence[TimelineEvent], int]:
            page = await self._store.timeline(project_id, task_id, after, _PAGE)
            if watched is not None and page.task.create_time_ms != watched.create_time_ms:
                raise TaskNotFound(task_id)  # it was purged, and this is another one of that id
            return page.events, page.last_sequence

        subject = Changed(project_id, task_id)
        # Listen first, read then: what happens in between is either read or signalled.
        async with self._topics.following(subject) as topic:
            position = after_sequence or 0
            page = await self._store.timeline(project_id, task_id, position, _PAGE)
            watched = page.task
            tail = topic.tail(watched.create_time_ms, read, _TASK_CAPACITY)
            yield Snapshot(watched, position)
            events, until = page.events, page.last_sequence
            while True:
                for event in events:
                    position = event.sequence
                    yield TaskEvent(event, position)
                if position >= until and tail.reaches(position):
                    break
                events, until = await read(position)
            yield Synced(position)
            ended = watched.state in TERMINAL_STATES
            while not ended:
                news = await self._news(tail, read, position)
                if not news:
                    yield Heartbeat(position)
                for event in news:
                    position = event.sequence
                    ended = event.type in TERMINAL_EVENTS
                    yield TaskEvent(event, position)

    async def watch_project(
        self, project_id: str, queue: str | None, after_number: int | None
    ) -> AsyncGenerator[WatchItem, None]:
        """Yield events of all tasks of a project, or of one queue, after a number (None: from now on).

        `Synced` parts what was missed from what is live. It ends only with an error.

        Raises:
            CursorTooOld, Draining, StoreUnavailable: see `watch`.
        """

        async def read(after: int) -> tuple[Sequence[FeedEvent], int]:
            page = await self._store.feed(project_id, after, _FEED_PAGE)
            return page.events, page.last_number

        async with self._topics.following(Changed(project_id, None)) as topic:
            tail = topic.tail(None, read, _PROJECT_CAPACITY)
            page = await self._store.feed(project_id, after_number, _FEED_PAGE)
            position = page.last_number if after_number is None else after_number
            events, until = page.events, page.last_number
            while True:
                for item in events:
                    position = item.number
                    if queue is None or item.queue == queue:
                        yield TaskEvent(item.event, position)
                if position >= until and tail.reaches(position):
                    break
                events, until = await read(position)
            yield Synced(position)
            told_at = time.monotonic()
            while True:
                news = await self._news(tail, read, position)
                for item in news:
                    position = item.number
                    if queue is None or item.queue == queue:
                        yield TaskEvent(item.event, position)
                        told_at = time.monotonic()
                # Also when only other queues have news, so that the client's token does not grow old.
                if not news or time.monotonic() - told_at >= self._heartbeat_ms / 1_000:
                    yield Heartbeat(position)
                    told_at = time.monotonic()

    async def _news(
        self,
        tail: Tail[Item],
        read: Callable[[int], Awaitable[tuple[Sequence[Item], int]]],
        position: int,
    ) -> Sequence[Item]:
        """Return what happened after `position`; nothing after a time of silence."""
        try:
            async with asyncio.timeout(self._heartbeat_ms / 1_000):
                return await tail.after(position)
        except FellBehind:
            # More happened at once than is kept for all: this one reads for itself until it is back.
            events, _ = await read(position)
            return events
        except TimeoutError:
            return ()
