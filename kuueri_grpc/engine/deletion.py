"""Removing closed projects: by one process each, in steps that leave the store as much time as they take."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from kuueri_grpc.domain.errors import ProjectNotFound
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.ports import ProjectStore

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: How long a process that deletes a project is taken to be at it: longer than a step with attempts that have
#: to be stopped, which waits for a lease. Claimed anew after a part of it.
_CLAIM_MS = 30_000
_CLAIM_PART = 1 / 3
#: How often a caller checks whether the process that deletes its project is done.
_CHECK_S = 0.2
#: How often the log says how far a deletion is.
_LOG_S = 10.0
#: The longest pause between two steps.
_PAUSE_S = 1.0


class Deletions:
    """Removes closed projects."""

    def __init__(self, store: ProjectStore, revocations: Revocations) -> None:
        self._store = store
        self._revocations = revocations

    async def finish(self, project_id: str) -> None:
        """Return when a closed project is gone, whichever process removed it.

        Raises `StoreUnavailable`; the deletion is taken up by another process then.
        """
        try:
            while True:
                if await _Deletion(self._store, self._revocations, project_id).run():
                    return
                await asyncio.sleep(_CHECK_S)
        except ProjectNotFound:
            pass  # gone

    async def finish_all(self) -> bool:
        """Remove the closed projects that no other process is at; return whether all are gone.

        Raises `StoreUnavailable`.
        """
        all_gone = True
        for project_id in await self._store.closed():
            try:
                all_gone &= await _Deletion(self._store, self._revocations, project_id).run()
            except ProjectNotFound:
                continue  # another process was faster
        return all_gone


class _Deletion:
    """One project, as far as this process removes it."""

    def __init__(self, store: ProjectStore, revocations: Revocations, project_id: str) -> None:
        self._store = store
        self._revocations = revocations
        self._project_id = project_id
        self._claimed_at = float("-inf")
        self._logged_at = time.monotonic()
        self._removed = 0

    async def run(self) -> bool:
        """Remove the project; False: another process is at it. Raises `ProjectNotFound` when it is gone."""
        return await self._end_tasks() and await self._erase_tasks() and await self._drop()

    async def _end_tasks(self) -> bool:
        cursor = None
        while await self._claimed():
            step = await self._paced(self._store.end_tasks(self._project_id, cursor))
            await asyncio.gather(*(self._revocations.stop_attempt(attempt) for attempt in step.revoked))
            self._note(step.removed, step.left)
            if (cursor := step.cursor) is None:
                return True
        return False

    async def _erase_tasks(self) -> bool:
        while await self._claimed():
            step = await self._paced(self._store.erase_tasks(self._project_id))
            self._note(step.removed, step.left)
            if not step.left:
                return True
        return False

    async def _drop(self) -> bool:
        while await self._claimed():
            if await self._paced(self._store.forget_requests(self._project_id)):
                await self._store.drop(self._project_id)
                self._log("a project was deleted")
                return True
        return False

    async def _claimed(self) -> bool:
        """Whether this process is the one, which is asked for from time to time."""
        now = time.monotonic()
        if now - self._claimed_at > _CLAIM_MS * _CLAIM_PART / 1_000:
            if not await self._store.claim_deletion(self._project_id, _CLAIM_MS):
                return False
            self._claimed_at = now
        return True

    async def _paced(self, step: Awaitable[_Result]) -> _Result:
        """Take a step, and leave the store alone for as long as it took."""
        started = time.monotonic()
        result = await step
        await asyncio.sleep(min(_PAUSE_S, time.monotonic() - started))
        return result

    def _note(self, removed: int, left: int) -> None:
        self._removed += removed
        if time.monotonic() - self._logged_at > _LOG_S:
            self._logged_at = time.monotonic()
            self._log("a project is being deleted", left=left)

    def _log(self, message: str, **numbers: int) -> None:
        numbers = {"removed": self._removed, **numbers}
        shown = ", ".join(f"{number} tasks {name}" for name, number in numbers.items())
        extra = {"event": "project_deletion", "project": self._project_id, **numbers}
        _log.info("%s: %s", message, shown, extra=extra)
