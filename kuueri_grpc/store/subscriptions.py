"""Subscribing on a store: tasks in script calls of bounded size, and what a repeated call is answered."""

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kuueri_grpc.domain.content import content_of
from kuueri_grpc.domain.errors import (
    KuueriError,
    ProjectNotFound,
    QuotaExceeded,
    RequestIdReused,
    StoreUnavailable,
    TaskExists,
    TaskPurged,
    TaskUnreadable,
)
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import UNREADABLE_TARGET, Task, TaskSpec
from kuueri_grpc.ports import NewTask
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.errors import ErrorKind, kind_of
from kuueri_grpc.store.group_commit import GroupCommit
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.vault import Vault

#: Tasks in one script call: long calls hold up every other client of the store.
_SUBSCRIBE_CHUNK = 100
#: Bytes of the requests in one script call, of a batch or of tasks that come in calls of their own: about
#: 3 ms of the store. A larger request has a call of its own.
_CHUNK_BYTES = 524_288
#: Characters of the operation of a Subscribe, which is kept in each task: one more takes 16 bytes more.
#: It has to tell a call from others for the same task_id only.
_SUBSCRIBE_OPERATION = 7

#: Reads the record of a task: (project id, task id, snapshot). Raises `TaskUnreadable`.
ShowTask: TypeAlias = Callable[[str, str, Sequence[codec.Flat]], Task]


@dataclass(frozen=True, slots=True)
class _Subscription:
    """A task to accept, as the script takes it; `weight`: bytes of its request."""

    new: NewTask
    arguments: Sequence[Argument]
    weight: int


class Subscriptions:
    """Accepts tasks, and recalls those that were accepted."""

    def __init__(self, runner: ScriptRunner, settings: StoreSettings, vault: Vault, show: ShowTask) -> None:
        self._runner = runner
        self._settings = settings
        self._vault = vault
        self._show = show
        self._group_commit = GroupCommit(self._subscribe_group, _SUBSCRIBE_CHUNK, _CHUNK_BYTES)

    async def subscribe(
        self, project_id: str, tasks: Sequence[NewTask], queue_limit: int
    ) -> list[Task | KuueriError]:
        """See `ports.TaskStore`. A call for one task may share its script call with others."""
        if len(tasks) == 1:
            item = self._subscription(project_id, tasks[0])
            return [await self._group_commit.add((project_id, queue_limit), item, item.weight)]
        chunks = list(_chunks(tasks))
        if len(chunks) > 1:
            await self._runner.load("subscribe")
        calls: list[asyncio.Task[list[Task | KuueriError]]] = []
        try:
            for chunk in chunks:
                items = [self._subscription(project_id, new) for new in chunk]
                calls.append(asyncio.create_task(self._subscribe_chunk(project_id, queue_limit, items)))
                # The store works on it while the next one is sealed, and other callers get their turn.
                await asyncio.sleep(0)
        except BaseException:
            for call in calls:
                call.cancel()
            raise
        return _joined(chunks, await asyncio.gather(*calls, return_exceptions=True))

    async def recall(self, project_id: str, tasks: Sequence[NewTask]) -> list[Task | KuueriError | None]:
        """See `ports.TaskStore`."""
        chunks = list(_chunks(tasks))
        answers = await self._runner.run_each(
            "recall", [self._recall_call(project_id, chunk) for chunk in chunks]
        )
        return [
            answer if isinstance(answer, StoreUnavailable) else self._recalled(project_id, new, answer[i])
            for chunk, answer in zip(chunks, answers, strict=True)
            for i, new in enumerate(chunk)
        ]

    def _recall_call(self, project_id: str, tasks: Sequence[NewTask]) -> tuple[int, list[Argument]]:
        arguments: list[Argument] = [project_id, len(tasks)]
        for new in tasks:
            arguments += (new.spec.task_id, *self._request(project_id, new))
        return keys.partition_of(project_id, self._settings.partitions), arguments

    def _recalled(self, project_id: str, new: NewTask, result: list[Any]) -> Task | KuueriError | None:
        return None if result == [b"NONE"] else self._subscribed(project_id, new, result)

    async def _subscribe_group(
        self, key: tuple[str, int], items: Sequence["_Subscription"]
    ) -> list[Task | KuueriError]:
        return await self._subscribe_chunk(*key, items)

    async def _subscribe_chunk(
        self, project_id: str, queue_limit: int, items: Sequence["_Subscription"]
    ) -> list[Task | KuueriError]:
        try:
            call = self._subscribe_call(project_id, queue_limit, items)
            return self._subscribed_chunk(project_id, items, await self._runner.run("subscribe", *call))
        except StoreUnavailable as error:
            if len(items) == 1 or error.__cause__ is None or kind_of(error.__cause__) is not ErrorKind.OTHER:
                raise
        # The script broke, on what is kept of one of them: it is not to cost the others their place.
        answers = await self._runner.run_each(
            "subscribe", [self._subscribe_call(project_id, queue_limit, [item]) for item in items]
        )
        return [
            answer
            if isinstance(answer, StoreUnavailable)
            else self._subscribed(project_id, item.new, answer[0])
            for item, answer in zip(items, answers, strict=True)
        ]

    def _subscribe_call(
        self, project_id: str, queue_limit: int, items: Sequence["_Subscription"]
    ) -> tuple[int, list[Argument]]:
        arguments: list[Argument] = [
            project_id,
            new_operation()[:_SUBSCRIBE_OPERATION],
            queue_limit,
            self._settings.request_id_ttl_ms,
            len(items),
        ]
        for item in items:
            arguments += item.arguments
        return keys.partition_of(project_id, self._settings.partitions), arguments

    def _subscription(self, project_id: str, new: NewTask) -> "_Subscription":
        spec, schedule = new.spec, new.spec.schedule
        due: tuple[str, int] = ("in", schedule.delay_ms or 0)
        if schedule.at_ms is not None:
            due = ("at", schedule.at_ms)
        request = self._vault.seal_request(project_id, spec.task_id, spec.target)
        arguments: list[Argument] = [
            spec.task_id,
            spec.queue,
            *due,
            "" if schedule.start_deadline_ms is None else schedule.start_deadline_ms,
            request,
            codec.pack_policy(spec),
            codec.pack_labels(spec.labels),
            *self._request(project_id, new),
            self._vault.lane_of(spec.target.url),
        ]
        return _Subscription(new, arguments, len(request))

    def _request(self, project_id: str, new: NewTask) -> tuple[str, str]:
        """Return the name of a task's request id among those of its project, and the fingerprints."""
        if not new.request_id:
            return "", ""
        # No request id has a '~'.
        name = new.request_id if new.place is None else f"{new.request_id}~{new.place}"
        return name, self._vault.fingerprints(project_id, new.fingerprint)

    def _subscribed_chunk(
        self, project_id: str, chunk: Sequence["_Subscription"], answer: Sequence[list[Any]]
    ) -> list[Task | KuueriError]:
        results: list[Task | KuueriError] = []
        for item, result in zip(chunk, answer, strict=True):
            match result:
                case [b"TWIN", place]:
                    results.append(results[place - 1])
                case _:
                    results.append(self._subscribed(project_id, item.new, result))
        return results

    def _subscribed(self, project_id: str, new: NewTask, result: list[Any]) -> Task | KuueriError:
        match result:
            case [b"OK", create_time_ms, due_ms]:
                return Task(
                    project_id,
                    new.spec,
                    TaskState.SCHEDULED,
                    create_time_ms=create_time_ms,
                    schedule_time_ms=due_ms,
                )
            case [b"SAME", task_id, snapshot]:
                return self._same(project_id, task_id.decode(), snapshot)
            case [b"COMPARE", task_id, snapshot]:
                found = self._same(project_id, task_id.decode(), snapshot)
                if isinstance(found, Task) and not _same_content(found.spec, new.spec):
                    return RequestIdReused(new.request_id, found.spec.task_id)
                return found
            case _:
                return _refusal(project_id, new, result)

    def _same(self, project_id: str, task_id: str, snapshot: Sequence[codec.Flat]) -> Task | TaskUnreadable:
        try:
            return self._show(project_id, task_id, snapshot)
        except TaskUnreadable as error:
            return error  # of this item: the others of the batch are not to be lost for it


def _refusal(project_id: str, new: NewTask, result: Sequence[Any]) -> KuueriError:
    match result:
        case [b"EXISTS"]:
            return TaskExists(new.spec.task_id)
        case [b"REUSED", task_id]:
            return RequestIdReused(new.request_id, task_id.decode())
        case [b"PURGED", task_id]:
            return TaskPurged(new.request_id, task_id.decode())
        case [b"QUOTA", limit]:
            return QuotaExceeded(project_id, limit)
        case [b"NO_PROJECT"]:
            return ProjectNotFound(project_id)
        case _:
            raise codec.CorruptRecord(f"a script answered {result[:1]!r} and {len(result) - 1} more")


def _chunks(tasks: Sequence[NewTask]) -> Iterator[list[NewTask]]:
    """Yield the tasks in parts for a script call each, at least one in each."""
    chunk: list[NewTask] = []
    weight = 0
    for new in tasks:
        target = new.spec.target
        more = len(target.body) + len(target.url) + sum(len(n) + len(v) for n, v in target.headers.items())
        if chunk and (len(chunk) == _SUBSCRIBE_CHUNK or weight + more > _CHUNK_BYTES):
            yield chunk
            chunk, weight = [], 0
        chunk.append(new)
        weight += more
    yield chunk


def _joined(
    chunks: Sequence[Sequence[NewTask]], answers: Sequence[Sequence[Task | KuueriError] | BaseException]
) -> list[Task | KuueriError]:
    """Return the results of all chunks; those of a chunk that the store did not answer for are its error.

    Raises:
        StoreUnavailable: the store answered for none.
    """
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    for failure in failures:
        if len(failures) == len(answers) or not isinstance(failure, StoreUnavailable):
            raise failure
    results: list[Task | KuueriError] = []
    for chunk, answer in zip(chunks, answers, strict=True):
        if isinstance(answer, StoreUnavailable):
            results += [answer] * len(chunk)
        elif not isinstance(answer, BaseException):
            results += answer
    return results


def _same_content(kept: TaskSpec, came: TaskSpec) -> bool:
    """Return whether a call is for the task that is kept. Of that, what can be read is compared."""
    if kept.target == UNREADABLE_TARGET:
        came = dataclasses.replace(came, target=UNREADABLE_TARGET)
    return content_of(kept) == content_of(came)


def new_operation() -> str:
    """Return what tells a call from all others."""
    return secrets.token_urlsafe(9)
