"""Follow tasks live: snapshot, missed events, synced, then events as they happen."""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field

from kuueri_grpc.domain.errors import CursorTooOld, Draining, KuueriError, TaskNotFound
from kuueri_grpc.domain.state import TERMINAL_STATES
from kuueri_grpc.domain.task import Task
from kuueri_grpc.domain.timeline import TERMINAL_EVENTS, TimelineEvent, TimelineGap
from kuueri_grpc.engine.tail import FellBehind, Item, Read, Tail, read_after, silence
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
    """The task as it was when the watch began.

    `sequence`: the position to resume from, on the timeline or in the feed. `mark`: of the event there; 0 if
    it is not known. Both are the same in what follows.
    """

    task: Task
    sequence: int
    mark: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened."""

    event: TimelineEvent
    sequence: int
    mark: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that are not kept any more: what follows is after them."""

    gap: TimelineGap
    sequence: int
    mark: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Synced:
    """All that was missed has been told; what follows is live."""

    sequence: int
    mark: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing has happened for a while."""

    sequence: int
    mark: int = field(default=0, compare=False)


WatchItem = Snapshot | TaskEvent | Gap | Synced | Heartbeat


class WatchHub:
    """All watches of this process, on one connection for signals.

    Timelines and feeds are the truth and a signal only says "look". What one watch reads is kept for
    the others; a watch itself is no more than a position, whatever its client's speed.
    """

    def __init__(self, store: TaskStore, bus: SignalBus, heartbeat_ms: int) -> None:
        self._store = store
        self._topics = Topics(bus)
        self._heartbeat_ms = heartbeat_ms
        self._silence = silence(heartbeat_ms / 1_000)

    @property
    def watchers(self) -> int:
        """How many watches there are."""
        return self._topics.followers

    def changed(self, change: Changed) -> None:
        """Tell the watches of a task or a project that there is news."""
        self._topics.changed(change)

    def wake_all(self) -> None:
        """Let every watch look, and look whether it still stands on what it was told: the store was away."""
        self._topics.doubt_all()

    def drain(self) -> None:
        """End every watch with `Draining`, and refuse new ones."""
        self._topics.close(Draining)

    async def watch(
        self, project_id: str, task_id: str, after_sequence: int | None, mark: int = 0
    ) -> AsyncGenerator[WatchItem, None]:
        """Yield the task's snapshot, events after a sequence (None: all kept), `Synced`, then live events.

        Ends after the terminal event; a task that is purged while being watched has one, too. A watch from
        the start may have a `Gap`, one after a sequence has none. `mark`: of the event at that sequence; 0 if
        it is not known.

        Raises:
            TaskNotFound: no such task.
            CursorTooOld: events after that sequence are not kept any more, or the event there is another.
            Draining: the server is shutting down.
            StoreUnavailable: the store does not serve.
        """
        timeline = _Timeline(self._store, project_id, task_id)
        # Listen first, read then: what happens in between is either read or signalled.
        async with self._topics.following(Changed(project_id, task_id)) as topic:
            position = after_sequence or 0
            read = timeline.read if position else timeline.read_over_gap
            events, until = await read_after(read, position, mark)
            snapshot = Snapshot(timeline.first, position, mark)
            del timeline.first  # a watch lasts: it holds no more than it needs
            tail = topic.tail(snapshot.task.create_time_ms, timeline.read, _TASK_CAPACITY)
            ended = snapshot.task.state in TERMINAL_STATES
            yield snapshot
            del snapshot
            while True:
                for item in _items(events, position):
                    position, mark = item.sequence, item.mark
                    ended = ended or _is_last(item)
                    yield item
                    del item
                if position >= until and tail.reaches(position, mark):
                    break
                events, until = await read_after(read, position, mark)
            del events
            yield Synced(position, mark)
            while not ended:
                news = await self._news(tail, timeline.read, position, mark)
                if not news:
                    yield Heartbeat(position, mark)
                for item in _items(news, position):
                    position, mark = item.sequence, item.mark
                    ended = _is_last(item)
                    yield item
                    del item
                del news

    async def watch_project(
        self, project_id: str, queue: str | None, after_number: int | None, mark: int = 0
    ) -> AsyncGenerator[WatchItem, None]:
        """Yield events of all tasks of a project, or of one queue, after a number (None: from now on).

        `Synced` parts what was missed from what is live. It ends only with an error. `mark`: of the event
        with that number; 0 if it is not known.

        Raises:
            CursorTooOld, Draining, StoreUnavailable: see `watch`.
        """

        async def read(after: int) -> tuple[Sequence[FeedEvent], int]:
            page = await self._store.feed(project_id, after, _FEED_PAGE)
            return page.events, page.last_number

        async with self._topics.following(Changed(project_id, None)) as topic:
            tail = topic.tail(None, read, _PROJECT_CAPACITY)
            position, mark = await self._start(project_id, after_number, mark)
            events, until = await read_after(read, position, mark)
            while True:
                for item in events:
                    position, mark = item.number, item.mark
                    if queue is None or item.queue == queue:
                        yield TaskEvent(item.event, position, mark)
                if position >= until and tail.reaches(position, mark):
                    break
                events, until = await read_after(read, position, mark)
            yield Synced(position, mark)
            told_at = time.monotonic()
            while True:
                news = await self._news(tail, read, position, mark)
                for item in news:
                    position, mark = item.number, item.mark
                    if queue is None or item.queue == queue:
                        yield TaskEvent(item.event, position, mark)
                        told_at = time.monotonic()
                # Also when only other queues have news, so that the client's token does not grow old.
                if not news or time.monotonic() - told_at >= self._heartbeat_ms / 1_000:
                    yield Heartbeat(position, mark)
                    told_at = time.monotonic()

    async def _start(self, project_id: str, after_number: int | None, mark: int) -> tuple[int, int]:
        """Return the number of the event to begin behind, by default the latest, and its mark."""
        if after_number is not None:
            return after_number, mark
        number = (await self._store.feed(project_id, None, 1)).last_number
        if not number:
            return 0, 0
        page = await self._store.feed(project_id, number - 1, 1)
        return number, next((item.mark for item in page.events if item.number == number), 0)

    async def _news(self, tail: Tail[Item], read: Read[Item], position: int, mark: int) -> Sequence[Item]:
        """Return what happened after `position`; nothing after a time of silence."""
        try:
            return await tail.after(position, self._silence)
        except FellBehind:
            # More happened at once than is kept for all: this one reads for itself until it is back.
            events, _ = await read_after(read, position, mark)
            return events


def _items(events: Sequence[TimelineEvent], position: int) -> Iterator[TaskEvent | Gap]:
    """Yield the events that follow a position, and where some are missing, that they are."""
    for event in events:
        if event.sequence > position + 1:
            yield Gap(TimelineGap(position + 1, event.sequence - 1), event.sequence - 1)
        position = event.sequence
        yield TaskEvent(event, event.sequence, event.mark)


def _is_last(item: TaskEvent | Gap) -> bool:
    return isinstance(item, TaskEvent) and item.event.type in TERMINAL_EVENTS


class _Timeline:
    """Reads the timeline of a task, and of no other one that has its id later.

    `first`: the task as it was at the first reading, for who takes it away.
    """

    __slots__ = ("_create_time_ms", "_project_id", "_store", "_task_id", "first")

    first: Task

    def __init__(self, store: TaskStore, project_id: str, task_id: str) -> None:
        self._store = store
        self._project_id = project_id
        self._task_id = task_id
        self._create_time_ms: int | None = None

    async def read(self, after: int) -> tuple[Sequence[TimelineEvent], int]:
        """Return a page behind an event, and the number of the last event.

        Raises:
            TaskNotFound: the task is gone; another one may have its id.
            CursorTooOld: some of the events after it are not kept any more.
        """
        return await self._read(after, over_gap=False)

    async def read_over_gap(self, after: int) -> tuple[Sequence[TimelineEvent], int]:
        """Return the same where events are missing: those before them, and those after them."""
        return await self._read(after, over_gap=True)

    async def _read(self, after: int, *, over_gap: bool) -> tuple[Sequence[TimelineEvent], int]:
        known = self._create_time_ms
        try:
            page = await self._store.timeline(self._project_id, self._task_id, after, _PAGE)
        except (TaskNotFound, CursorTooOld) as error:
            if known is None:
                raise
            return await self._read_purged(known, after, error)
        if known is None:
            self._create_time_ms = page.task.create_time_ms
            self.first = page.task
        elif known != page.task.create_time_ms:  # it was purged, and another one has its id
            return await self._read_purged(known, after, TaskNotFound(self._task_id))
        if after + 1 < page.first_sequence and not over_gap:
            raise CursorTooOld(
                f"events of task {self._task_id!r} after sequence {after} are not kept any more; "
                f"all are from {page.first_sequence} on"
            )
        return page.events, page.last_sequence

    async def _read_purged(
        self, create_time_ms: int, after: int, error: KuueriError
    ) -> tuple[Sequence[TimelineEvent], int]:
        """Read the events of a purged task. Raises `error` where they are not kept."""
        try:
            return await self._store.purged_timeline(self._project_id, self._task_id, create_time_ms, after)
        except TaskNotFound:
            raise error from None
