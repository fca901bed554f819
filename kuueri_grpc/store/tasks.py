"""The `TaskStore` port: subscribe, read and command tasks."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kuueri_grpc.domain.errors import (
    CursorInvalid,
    CursorTooOld,
    KuueriError,
    ProjectNotFound,
    QuotaExceeded,
    RequestIdReused,
    StoreUnavailable,
    TaskEnded,
    TaskExists,
    TaskNotFound,
    TaskRunning,
    TaskUnreadable,
)
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Task
from kuueri_grpc.ports import Cancelled, FeedSlice, NewTask, TaskFilter, TaskPage, TimelineSlice
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.errors import ErrorKind, kind_of
from kuueri_grpc.store.group_commit import GroupCommit
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.vault import Vault

_log = logging.getLogger(__name__)

#: Tasks in one script call: long calls hold up every other client of the store.
_SUBSCRIBE_CHUNK = 100
#: Of the requests of tasks that come in calls of their own and share a script call.
_GROUP_BYTES = 1_048_576
#: Characters of the operation of a Subscribe, which is kept in each task: one more takes 16 bytes more.
#: It has to tell a call from others for the same task_id only.
_SUBSCRIBE_OPERATION = 7
#: Past every number of an event.
_LATEST = 2**53
#: Index entries that one ListTasks call looks at.
_LIST_LOOKS = 2_000


@dataclass(frozen=True, slots=True)
class _Subscription:
    """A task to accept, as the script takes it; `weight`: bytes of its request."""

    new: NewTask
    arguments: Sequence[Argument]
    weight: int


class RedisTaskStore:
    """`ports.TaskStore` on the scripts."""

    def __init__(self, runner: ScriptRunner, settings: StoreSettings, vault: Vault) -> None:
        self._runner = runner
        self._settings = settings
        self._vault = vault
        self._group_commit = GroupCommit(self._subscribe_group, _SUBSCRIBE_CHUNK, _GROUP_BYTES)

    def _partition(self, project_id: str) -> int:
        return keys.partition_of(project_id, self._settings.partitions)

    async def subscribe(
        self, project_id: str, tasks: Sequence[NewTask], queue_limit: int
    ) -> list[Task | KuueriError]:
        """See `ports.TaskStore`. A call for one task may share its script call with others."""
        if len(tasks) == 1:
            item = self._subscription(project_id, tasks[0])
            return [await self._group_commit.add((project_id, queue_limit), item, item.weight)]
        if len(tasks) > _SUBSCRIBE_CHUNK:
            await self._runner.load("subscribe")
        chunks: list[asyncio.Task[list[Task | KuueriError]]] = []
        try:
            for start in range(0, len(tasks), _SUBSCRIBE_CHUNK):
                items = [
                    self._subscription(project_id, new) for new in tasks[start : start + _SUBSCRIBE_CHUNK]
                ]
                chunks.append(asyncio.create_task(self._subscribe_chunk(project_id, queue_limit, items)))
                # The store works on it while the next one is sealed, and other callers get their turn.
                await asyncio.sleep(0)
        except BaseException:
            for chunk in chunks:
                chunk.cancel()
            raise
        return [result for results in await asyncio.gather(*chunks) for result in results]

    async def _subscribe_chunk(
        self, project_id: str, queue_limit: int, items: Sequence["_Subscription"]
    ) -> list[Task | KuueriError]:
        answer = await self._runner.run("subscribe", *self._subscribe_call(project_id, queue_limit, items))
        return self._subscribed_chunk(project_id, items, answer)

    async def _subscribe_group(
        self, key: tuple[str, int], items: Sequence["_Subscription"]
    ) -> list[Task | KuueriError]:
        """Accept tasks of several calls."""
        project_id, queue_limit = key
        try:
            return await self._subscribe_chunk(project_id, queue_limit, items)
        except StoreUnavailable as error:
            if len(items) == 1 or error.__cause__ is None or kind_of(error.__cause__) is not ErrorKind.OTHER:
                raise
        # The script broke, on what is kept of one of them: it is not to cost the others their call.
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
            _new_operation()[:_SUBSCRIBE_OPERATION],
            queue_limit,
            self._settings.request_id_ttl_ms,
            len(items),
        ]
        for item in items:
            arguments += item.arguments
        return self._partition(project_id), arguments

    async def get(self, project_id: str, task_id: str) -> Task:
        """See `ports.TaskStore`."""
        return await self._command("get", project_id, task_id)

    async def list_tasks(
        self, project_id: str, where: TaskFilter, page_size: int, cursor: str | None
    ) -> TaskPage:
        """See `ports.TaskStore`."""
        score, after = _parse_cursor(cursor)
        snapshots, next_score, next_id = await self._runner.run(
            "list",
            self._partition(project_id),
            [
                project_id,
                page_size,
                _LIST_LOOKS,
                score,
                after,
                where.state or "",
                where.queue or "",
                codec.pack_pairs(where.labels),
            ],
        )
        tasks, unreadable = [], []
        for task_id, *hashes in snapshots:
            try:
                tasks.append(self._task(project_id, task_id.decode(), hashes))
            except TaskUnreadable as error:
                unreadable.append(error)
        next_cursor = f"{next_score.decode()}/{next_id.decode()}" if next_score else None
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

    async def run(self, project_id: str, task_id: str) -> Task:
        """See `ports.TaskStore`."""
        return await self._command("run", project_id, task_id, _new_operation())

    async def purge(self, project_id: str, task_id: str) -> None:
        """See `ports.TaskStore`."""
        await self._run("purge", project_id, task_id, _new_operation(), self._settings.replay_ms)

    async def timeline(self, project_id: str, task_id: str, after_sequence: int, limit: int) -> TimelineSlice:
        """See `ports.TaskStore`."""
        snapshot, first, lines = await self._run("timeline", project_id, task_id, after_sequence, limit)
        task = self._task(project_id, task_id, snapshot)
        if after_sequence and after_sequence + 1 < first:
            raise CursorTooOld(
                f"events of task {task_id!r} after sequence {after_sequence} are not kept any more; "
                f"the oldest is {first}"
            )
        if after_sequence > task.sequence:
            raise CursorTooOld(
                f"task {task_id!r} has {task.sequence} events, none after sequence {after_sequence}: "
                "it was purged and subscribed anew, or the store has lost its latest writes"
            )
        return TimelineSlice(task, [codec.event(task_id, line) for line in lines], first, task.sequence)

    async def feed(self, project_id: str, after_number: int | None, limit: int) -> FeedSlice:
        """See `ports.TaskStore`."""
        after = _LATEST if after_number is None else after_number
        last, first, entries = await self._runner.run(
            "feed", self._partition(project_id), [project_id, after, limit]
        )
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
        events = itertools.chain.from_iterable(codec.feed_entry(*entry) for entry in entries)
        return FeedSlice([event for event in events if event.number > after], last)

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
            new.request_id,
            self._vault.fingerprints(project_id, new.fingerprint) if new.request_id else "",
            keys.lane_of(spec.target.url),
        ]
        return _Subscription(new, arguments, len(request))

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
            case [b"EXISTS"]:
                return TaskExists(new.spec.task_id)
            case [b"REUSED", task_id]:
                return RequestIdReused(new.request_id, task_id.decode())
            case [b"QUOTA", limit]:
                return QuotaExceeded(project_id, limit)
            case [b"NO_PROJECT"]:
                return ProjectNotFound(project_id)
            case _:
                raise codec.CorruptRecord(f"subscribe.lua answered {result[:1]!r} and {len(result) - 1} more")

    def _same(self, project_id: str, task_id: str, snapshot: Sequence[codec.Flat]) -> Task | TaskUnreadable:
        try:
            return self._task(project_id, task_id, snapshot)
        except TaskUnreadable as error:
            return error  # of this item: the others of the batch are not to be lost for it

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


def _new_operation() -> str:
    return secrets.token_urlsafe(9)


def _parse_cursor(cursor: str | None) -> tuple[str, str]:
    if cursor is None:
        return "+inf", ""
    score, separator, task_id = cursor.partition("/")
    if not (separator and task_id and score.isascii() and score.isdigit()):
        raise CursorInvalid("the page token is not one that ListTasks gave")
    return score, task_id
