"""The `TaskStore` port: subscribe, read and command tasks."""

import logging
from collections.abc import Sequence
from typing import Any

from kuueri_grpc.domain.errors import (
    KuueriError,
    TaskEnded,
    TaskNotFound,
    TaskRunning,
    TaskUnreadable,
)
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Task
from kuueri_grpc.domain.timeline import TimelineEvent
from kuueri_grpc.ports import Cancelled, FeedSlice, NewTask, TaskFilter, TaskPage, TimelineSlice
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.events import EventReader
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.subscriptions import Subscriptions, new_operation
from kuueri_grpc.store.task_listing import TaskListing
from kuueri_grpc.store.vault import Vault

_log = logging.getLogger(__name__)

#: Calls of RunTask that a task remembers.
_RUNS_KEPT = 16


class RedisTaskStore:
    """`ports.TaskStore` on the scripts."""

    def __init__(self, runner: ScriptRunner, settings: StoreSettings, vault: Vault) -> None:
        self._runner = runner
        self._settings = settings
        self._vault = vault
        self._events = EventReader(runner, settings.partitions, self._task)
        self._listing = TaskListing(runner, settings.partitions)
        self._subscriptions = Subscriptions(runner, settings, vault, self._task)

    def _partition(self, project_id: str) -> int:
        return keys.partition_of(project_id, self._settings.partitions)

    async def subscribe(
        self, project_id: str, tasks: Sequence[NewTask], queue_limit: int
    ) -> list[Task | KuueriError]:
        """See `ports.TaskStore`."""
        return await self._subscriptions.subscribe(project_id, tasks, queue_limit)

    async def recall(self, project_id: str, tasks: Sequence[NewTask]) -> list[Task | KuueriError | None]:
        """See `ports.TaskStore`."""
        return await self._subscriptions.recall(project_id, tasks)

    async def get(self, project_id: str, task_id: str) -> Task:
        """See `ports.TaskStore`."""
        return await self._command("get", project_id, task_id)

    async def list_tasks(
        self, project_id: str, where: TaskFilter, page_size: int, cursor: str | None
    ) -> TaskPage:
        """See `ports.TaskStore`."""
        snapshots, next_cursor = await self._listing.page(project_id, where, page_size, cursor)
        tasks, unreadable = [], []
        for task_id, hashes in snapshots:
            try:
                tasks.append(self._task(project_id, task_id, hashes))
            except TaskUnreadable as error:
                unreadable.append(error)
        return TaskPage(tasks, next_cursor, unreadable)

    async def cancel(self, project_id: str, task_id: str) -> Cancelled:
        """See `ports.TaskStore`."""
        answer = await self._run("cancel", project_id, task_id)
        snapshot, token, holder, lease_left_ms = answer
        task = self._task(project_id, task_id, snapshot)
        if not token:
            return Cancelled(task)
        return Cancelled(task, token.decode(), holder.decode(), lease_left_ms)

    async def pause(self, project_id: str, task_id: str) -> Task:
        """See `ports.TaskStore`."""
        return await self._command("pause", project_id, task_id)

    async def resume(self, project_id: str, task_id: str) -> Task:
        """See `ports.TaskStore`."""
        return await self._command("resume", project_id, task_id)

    async def run(self, project_id: str, task_id: str, request: str = "") -> Task:
        """See `ports.TaskStore`."""
        return await self._command("run", project_id, task_id, request or new_operation(), _RUNS_KEPT)

    async def purge(self, project_id: str, task_id: str) -> None:
        """See `ports.TaskStore`."""
        await self._run("purge", project_id, task_id, new_operation(), self._settings.replay_ms)

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        """See `ports.TaskStore`."""
        return await self._events.timeline(project_id, task_id, after_sequence, limit)

    async def purged_timeline(
        self, project_id: str, task_id: str, create_time_ms: int, after_sequence: int
    ) -> tuple[Sequence[TimelineEvent], int]:
        """See `ports.TaskStore`."""
        return await self._events.purged_timeline(project_id, task_id, create_time_ms, after_sequence)

    async def feed(self, project_id: str, after_number: int | None, limit: int) -> FeedSlice:
        """See `ports.TaskStore`."""
        return await self._events.feed(project_id, after_number, limit)

    async def _command(self, name: str, project_id: str, task_id: str, *more: Argument) -> Task:
        (snapshot,) = await self._run(name, project_id, task_id, *more)
        return self._task(project_id, task_id, snapshot)

    async def _run(self, name: str, project_id: str, task_id: str, *more: Argument) -> list[Any]:
        answer = await self._runner.run(name, self._partition(project_id), [project_id, task_id, *more])
        match answer:
            case [b"OK", *rest]:
                return rest
            case [b"MISSING"]:
                raise TaskNotFound(task_id)
            case [b"ENDED", state]:
                raise TaskEnded(task_id, TaskState(state.decode()), name)
            case [b"RUNNING", state]:
                raise TaskRunning(task_id, TaskState(state.decode()), name)
            case _:
                raise codec.CorruptRecord(f"{name}.lua answered {answer[:1]!r} and {len(answer) - 1} more")

    def _task(self, project_id: str, task_id: str, snapshot: Sequence[codec.Flat]) -> Task:
        """Raises `TaskUnreadable`, with a line in the log."""
        try:
            return codec.task(project_id, task_id, snapshot, self._vault.show_request)
        except codec.CorruptRecord as error:
            _log.error(
                "a task cannot be shown: %s",
                error,
                extra={"event": "task_unreadable", "project": project_id, "task": task_id},
            )
            raise TaskUnreadable(task_id, str(error)) from error
