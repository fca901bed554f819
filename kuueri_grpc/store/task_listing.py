"""Pages of a project's tasks, read in short script calls that let the calls of others in between.

A page is bounded by what is looked at for it, in tasks and in bytes, and so is each script call. A process
has two of these calls with the store at a time, and one of a project: however many pages a project asks for
at once, a call of another one waits for two scripts at the most.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from kuueri_grpc.domain.errors import CursorInvalid
from kuueri_grpc.ports import TaskFilter
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.scripts import Argument, ScriptRunner

#: Index entries that one page looks at.
_PAGE_LOOKS = 2_000
#: Script calls for one page: enough for 1,000 small tasks, and some 40 ms of the store in all.
_PAGE_CALLS = 24
#: Bytes of records after which a page ends: one more call would not fit into a client's message.
_PAGE_BYTES = 3 * 1024 * 1024
#: What one script call does, see `lua/list.lua`: about 2 ms, or a single record that is larger.
_CALL_LOOKS = 384
_CALL_WORK = 768 * 1024
#: Calls that a process has with the store at a time.
_CALLS_AT_ONCE = 2

#: A snapshot of a task: its id, the hash of database 1, that of database 2.
Snapshot = tuple[str, Sequence[codec.Flat]]


class ListLimiter:
    """Bounds the list calls that are with the store; those that wait take turns by project."""

    def __init__(self, at_once: int = _CALLS_AT_ONCE) -> None:
        self._slots = asyncio.Semaphore(at_once)
        #: A lock lives as long as a call of its project.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def slot(self, project_id: str) -> AsyncGenerator[None, None]:
        """Hold one of the slots for a call of a project."""
        lock = self._locks.get(project_id)
        if lock is None:
            lock = self._locks[project_id] = asyncio.Lock()
        async with lock, self._slots:
            yield


class TaskListing:
    """Reads pages."""

    def __init__(self, runner: ScriptRunner, partitions: int) -> None:
        self._runner = runner
        self._partitions = partitions
        self._limiter = ListLimiter()

    async def page(
        self, project_id: str, where: TaskFilter, page_size: int, cursor: str | None
    ) -> tuple[list[Snapshot], str | None]:
        """Return the snapshots of a page, and the cursor of the next one.

        Raises `CursorInvalid`, `StoreUnavailable`.
        """
        score, after = parse_cursor(cursor)
        partition = keys.partition_of(project_id, self._partitions)
        filters = (where.state or "", where.queue or "", codec.pack_pairs(where.labels))
        filtered = bool(where.state or where.queue or where.labels)
        found: list[Snapshot] = []
        looks, size = _PAGE_LOOKS, 0
        for _ in range(_PAGE_CALLS):
            left = page_size - len(found)
            most = min(looks, _CALL_LOOKS if filtered else min(left, _CALL_LOOKS))
            arguments: list[Argument] = [project_id, left, most, _CALL_WORK, score, after, *filters]
            async with self._limiter.slot(project_id):
                answer: list[Any] = await self._runner.run("list", partition, arguments)
            snapshots, next_score, next_id, looked = answer
            score, after = next_score.decode(), next_id.decode()
            for task_id, *hashes in snapshots:
                found.append((task_id.decode(), hashes))
                size += sum(map(len, hashes[1]))
            looks -= looked
            if not score or len(found) == page_size or looks <= 0 or size > _PAGE_BYTES:
                break
        return found, f"{score}/{after}" if score else None


def parse_cursor(cursor: str | None) -> tuple[str, str]:
    """Return the score and the task of a cursor; of None what begins a list. Raises `CursorInvalid`."""
    if cursor is None:
        return "+inf", ""
    score, separator, task_id = cursor.partition("/")
    if not (separator and task_id and score.isascii() and score.isdigit()):
        raise CursorInvalid("the page token is not one that ListTasks gave")
    return score, task_id
