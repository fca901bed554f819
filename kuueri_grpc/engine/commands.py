"""What clients can do with tasks."""

import dataclasses
import hashlib
from collections.abc import Sequence

from ulid import ULID

from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.domain.task import Task
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.ports import NewTask, TaskFilter, TaskPage, TaskStore, TimelineSlice


class Commands:
    """Commands on the tasks of a project. Errors are those of `ports.TaskStore`."""

    def __init__(self, store: TaskStore, revocations: Revocations, queue_limit: int) -> None:
        self._store = store
        self._revocations = revocations
        self._queue_limit = queue_limit

    async def subscribe(self, project_id: str, tasks: Sequence[NewTask]) -> Sequence[Task | KuueriError]:
        """Accept tasks; a result per item, in order. A task without an id gets a time-sortable one."""
        named = [new if new.spec.task_id else _with_id(new) for new in tasks]
        return await self._store.subscribe(project_id, named, self._queue_limit)

    async def recall(self, project_id: str, tasks: Sequence[NewTask]) -> Sequence[Task | KuueriError | None]:
        """Return what a repeated call is to be answered for each task; None where it was not accepted."""
        return await self._store.recall(project_id, tasks)

    async def get(self, project_id: str, task_id: str) -> Task:
        """Return the task."""
        return await self._store.get(project_id, task_id)

    async def list(self, project_id: str, where: TaskFilter, page_size: int, cursor: str | None) -> TaskPage:
        """Return one page of tasks, newest first."""
        return await self._store.list_tasks(project_id, where, page_size, cursor)

    async def cancel(self, project_id: str, task_id: str) -> Task:
        """End the task as CANCELED; return when no attempt of it can start any more."""
        cancelled = await self._store.cancel(project_id, task_id)
        await self._revocations.stop(project_id, cancelled)
        return cancelled.task

    async def pause(self, project_id: str, task_id: str) -> Task:
        """Stop waiting and keep the remaining delay."""
        return await self._store.pause(project_id, task_id)

    async def resume(self, project_id: str, task_id: str) -> Task:
        """Wait for the remaining delay again."""
        return await self._store.resume(project_id, task_id)

    async def run(self, project_id: str, task_id: str, request_id: str = "") -> Task:
        """Make the task due now; again with the same request id it changes nothing."""
        # Kept in the record: of one length, and without what the caller may have put into the id.
        request = hashlib.sha256(request_id.encode()).hexdigest()[:32] if request_id else ""
        return await self._store.run(project_id, task_id, request)

    async def purge(self, project_id: str, task_id: str) -> None:
        """Delete an ended or paused task with its timeline."""
        await self._store.purge(project_id, task_id)

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        """Return events after a sequence, oldest first."""
        return await self._store.timeline(project_id, task_id, after_sequence, limit)


def _with_id(new: NewTask) -> NewTask:
    spec = dataclasses.replace(new.spec, task_id=str(ULID()).lower())
    return dataclasses.replace(new, spec=spec)
