"""Port: tasks as clients command and read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kuueri_grpc.domain.errors import KuueriError, TaskUnreadable
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Task, TaskSpec
from kuueri_grpc.domain.timeline import TimelineEvent, TimelineGap


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to subscribe. `fingerprint` identifies its content for a repeated `request_id`.

    `place`: where the task stands in the batch that has the `request_id`; None: the id is that of one task.
    """

    spec: TaskSpec
    request_id: str = ""
    fingerprint: str = ""
    place: int | None = None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list: all that match every given condition."""

    state: TaskState | None = None
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks, newest first; `cursor` continues after them (None: there are no more).

    `unreadable`: tasks of the page whose records cannot be read.
    """

    tasks: Sequence[Task]
    cursor: str | None
    unreadable: Sequence[TaskUnreadable] = ()


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task after Cancel, and the attempt that was in flight, if one was.

    `token` and `holder` name the aborted attempt's fencing token and the instance that runs it;
    `lease_left_ms` bounds how long that instance may go on without a word from the store.
    """

    task: Task
    token: str | None = None
    holder: str | None = None
    lease_left_ms: int = 0


@dataclass(frozen=True, slots=True)
class TimelineSlice:
    """Events with `sequence` > the one asked for, oldest first, without a gap but the one that there may be.

    `task` is the snapshot at `last_sequence`, read in the same instant. All events from `first_sequence` on
    are kept; of those before, the first `kept_in_front` are.
    """

    task: Task
    events: Sequence[TimelineEvent]
    first_sequence: int
    last_sequence: int
    kept_in_front: int = 0

    @property
    def gap(self) -> TimelineGap | None:
        """The events that are not kept any more; None: all are."""
        if self.first_sequence == 1:
            return None
        return TimelineGap(self.kept_in_front + 1, self.first_sequence - 1)


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event of any task of a project. `number` counts 1, 2, 3 ... per project without gaps."""

    number: int
    queue: str
    event: TimelineEvent

    @property
    def mark(self) -> int:
        """See `TimelineEvent.mark`."""
        return self.event.mark


@dataclass(frozen=True, slots=True)
class FeedSlice:
    """Events of a project after a number, oldest first, without a gap; the latest there is."""

    events: Sequence[FeedEvent]
    last_number: int


class TaskStore(Protocol):
    """Tasks of all projects. Every change of a task is atomic over state, indexes, timeline and quota.

    What returns a task raises `TaskUnreadable` where its record cannot be read; a command has taken effect
    by then.

    Every command is idempotent towards a lost answer: repeating the call changes nothing and answers
    the same.
    """

    async def subscribe(
        self, project_id: str, tasks: Sequence[NewTask], queue_limit: int
    ) -> list[Task | KuueriError]:
        """Accept tasks; a result per item, in order.

        Items fail alone: `TaskExists`, `RequestIdReused`, `TaskPurged`, `QuotaExceeded`, `ProjectNotFound`. A
        repeated `request_id` with the same fingerprint gives the task of the first call, or `TaskPurged`
        where that is gone: it is remembered for its time, whatever becomes of the task.

        `StoreUnavailable` is the result of an item that may have been accepted or not; it is raised where
        that is so of all of them.
        """
        ...

    async def recall(self, project_id: str, tasks: Sequence[NewTask]) -> list[Task | KuueriError | None]:
        """Return, in order, what `subscribe` would answer to tasks that are there; None for one that is not.

        Reads only: for tasks that may not be accepted now. Errors: `TaskExists`, `RequestIdReused`,
        `TaskPurged`, and `StoreUnavailable` as in `subscribe`.
        """
        ...

    async def get(self, project_id: str, task_id: str) -> Task:
        """Return the task. Raises `TaskNotFound`."""
        ...

    async def list_tasks(
        self, project_id: str, where: TaskFilter, page_size: int, cursor: str | None
    ) -> TaskPage:
        """Return tasks, newest first.

        Work per call is bounded: a page may be short, or empty, and still have a cursor. Raises
        `CursorInvalid`.
        """
        ...

    async def cancel(self, project_id: str, task_id: str) -> Cancelled:
        """End the task as CANCELED. A canceled task is returned as it is.

        Raises `TaskNotFound`; `TaskEnded` if it ended otherwise.
        """
        ...

    async def pause(self, project_id: str, task_id: str) -> Task:
        """Keep the remaining delay and stop waiting.

        While DISPATCHING: hold the task when the attempt has ended. Raises `TaskNotFound`, `TaskEnded`.
        """
        ...

    async def resume(self, project_id: str, task_id: str) -> Task:
        """Wait for the remaining delay again. No-op on a task that is not paused.

        Raises `TaskNotFound`, `TaskEnded`.
        """
        ...

    async def run(self, project_id: str, task_id: str, request: str = "") -> Task:
        """Make a waiting or paused task due now. Raises `TaskNotFound`, `TaskEnded`, `TaskRunning`.

        A `request` (a word without spaces; empty: none) of one of the latest 16 calls on the task changes
        nothing, and gives the task as it is.
        """
        ...

    async def purge(self, project_id: str, task_id: str) -> None:
        """Delete an ended or paused task with its timeline; its events stay in the project's feed.

        A paused one is canceled first. See `purged_timeline`.

        Raises `TaskNotFound`, `TaskRunning`.
        """
        ...

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        """Return up to `limit` events after a sequence (0: from the start), with the task.

        Raises `TaskNotFound`; `CursorTooOld` when the sequence is in the gap, and is not the last event
        before it.
        """
        ...

    async def purged_timeline(
        self, project_id: str, task_id: str, create_time_ms: int, after_sequence: int
    ) -> tuple[Sequence[TimelineEvent], int]:
        """Return all events after a sequence of a task that was purged, and the sequence of the last one.

        The latest events of a purged task are kept for a minute, for its watches. `create_time_ms` tells it
        from others that had its id. Raises `TaskNotFound` when the events are not kept.
        """
        ...

    async def feed(self, project_id: str, after_number: int | None, limit: int) -> FeedSlice:
        """Return events of all tasks of a project after a number (None: just the latest number).

        `limit` bounds the entries that are read; one entry holds the events of one change. Raises
        `CursorTooOld` when events after that number are not kept any more.
        """
        ...
