"""Reads timelines of tasks and feeds of projects."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from kuueri_grpc.domain.errors import CursorTooOld, TaskNotFound
from kuueri_grpc.domain.task import Task
from kuueri_grpc.domain.timeline import TimelineEvent
from kuueri_grpc.ports import FeedSlice, TimelineSlice
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.scripts import Argument, ScriptRunner

#: Past every number of an event.
_LATEST = 2**53

#: Makes the task of a snapshot: (project id, task id, snapshot).
ReadTask = Callable[[str, str, Sequence[codec.Flat]], Task]


class EventReader:
    """The part of `ports.TaskStore` that reads events.

    Args:
        runner: runs the scripts.
        partitions: number of partitions of the store.
        read_task: raises `TaskUnreadable` where the record cannot be read.
    """

    def __init__(self, runner: ScriptRunner, partitions: int, read_task: ReadTask) -> None:
        self._runner = runner
        self._partitions = partitions
        self._read_task = read_task

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        """See `ports.TaskStore`."""
        match await self._run("timeline", project_id, task_id, after_sequence, limit):
            case [b"OK", snapshot, first, kept_in_front, lines]:
                task = self._read_task(project_id, task_id, snapshot)
            case _:
                raise TaskNotFound(task_id)
        if after_sequence > kept_in_front and after_sequence + 1 < first:
            raise CursorTooOld(
                f"events of task {task_id!r} after sequence {after_sequence} are not kept any more; "
                f"all are from {first} on"
            )
        if after_sequence > task.sequence:
            raise CursorTooOld(
                f"task {task_id!r} has {task.sequence} events, none after sequence {after_sequence}: "
                "it was purged and subscribed anew, or the store has lost its latest writes"
            )
        events = [codec.event(task_id, line) for line in lines]
        return TimelineSlice(task, events, first, task.sequence, kept_in_front)

    async def purged_timeline(
        self, project_id: str, task_id: str, create_time_ms: int, after_sequence: int
    ) -> tuple[Sequence[TimelineEvent], int]:
        """See `ports.TaskStore`."""
        lines = await self._run("purged", project_id, task_id, create_time_ms)
        events = [codec.event(task_id, line) for line in lines]
        if not events or after_sequence + 1 < events[0].sequence:
            raise TaskNotFound(task_id)
        return [event for event in events if event.sequence > after_sequence], events[-1].sequence

    async def feed(self, project_id: str, after_number: int | None, limit: int) -> FeedSlice:
        """See `ports.TaskStore`."""
        after = _LATEST if after_number is None else after_number
        last, first, entries = await self._run("feed", project_id, after, limit)
        if after_number is not None and after > last:
            raise CursorTooOld(
                f"this project has {last} events, none after number {after}: "
                "the store has lost its latest writes (a fail-over, or an older backup); "
                "watch again without a token"
            )
        if after_number is not None and after + 1 < first:
            raise CursorTooOld(
                f"events of this project after number {after} are not kept any more; the oldest is {first}"
            )
        flat = itertools.chain.from_iterable(codec.feed_entry(*entry) for entry in entries)
        events = [event for event in flat if event.number > after]
        whole = next((i for i, event in enumerate(events) if event.number != after + 1 + i), len(events))
        if events and not whole:
            raise CursorTooOld(
                f"events of this project after number {after} are missing: "
                "the store came back with an older feed; watch again without a token"
            )
        return FeedSlice(events[:whole], last)

    async def _run(self, name: str, project_id: str, *more: Argument) -> Any:
        partition = keys.partition_of(project_id, self._partitions)
        return await self._runner.run(name, partition, [project_id, *more])
