"""The steps that a closed project is removed in. Each can be repeated, by any process, at any time."""

import secrets
from typing import Any

from kuueri_grpc.domain.errors import ProjectNotFound, StoreUnavailable
from kuueri_grpc.ports import EndStep, EraseStep, Lease, RevokedAttempt
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.scripts import Argument, ScriptRunner, run_alone

#: Tasks in one script call: long calls hold up every other client of the store.
_TASK_CHUNK = 50
#: Request ids in one script call.
_FORGET_CHUNK = 500


class ProjectDeletion:
    """`close` has been called before all of this, see `ports.ProjectStore`."""

    def __init__(self, client: Commands, runner: ScriptRunner, partitions: int) -> None:
        self._client = client
        self._runner = runner
        self._partitions = partitions
        self._process = secrets.token_urlsafe(9)

    async def claim(self, project_id: str, lasts_ms: int) -> bool:
        """See `ports.ProjectStore.claim_deletion`."""
        claimed: int = await self._run("project_claim", project_id, self._process, lasts_ms)
        if claimed < 0:
            raise ProjectNotFound(project_id)
        return claimed > 0

    async def closed(self) -> list[str]:
        """Return the projects that are not gone yet, of the partitions that can be asked."""
        answers = await self._runner.run_each("closed", [(p, ()) for p in range(self._partitions)])
        return [
            text(project)
            for answer in answers
            if not isinstance(answer, StoreUnavailable)
            for project in answer
        ]

    async def end_tasks(self, project_id: str, cursor: str | None) -> EndStep:
        """Cancel or remove some tasks, the oldest first."""
        after, attempts, removed, left = await self._run(
            "project_end", project_id, cursor or "-inf", _TASK_CHUNK
        )
        revoked = [
            RevokedAttempt(Lease(project_id, text(task_id), text(token)), text(holder), lease_left_ms)
            for task_id, token, holder, lease_left_ms in attempts
        ]
        return EndStep(revoked, text(after) or None, removed, left)

    async def erase_tasks(self, project_id: str) -> EraseStep:
        """Remove some tasks."""
        removed, left = await self._run("project_erase", project_id, _TASK_CHUNK)
        return EraseStep(removed, left)

    async def forget_requests(self, project_id: str) -> bool:
        """Remove what some request ids are known by."""
        removed: int = await self._run("project_forget", project_id, _FORGET_CHUNK)
        return removed < _FORGET_CHUNK

    async def drop(self, project_id: str) -> None:
        """Remove the rest.

        The project itself goes last: as long as it is there, it is found by `closed`, and its e-mail
        address, which is in a slot of its own, is known.
        """
        with self._runner.observer.call("email"):
            email = await self._client.hget(
                keys.project(keys.partition_of(project_id, self._partitions), project_id), "email"
            )
        if email is not None:
            with self._runner.observer.call("free_email"):
                await run_alone(self._client, "free_email", [keys.email(text(email))], project_id)
        await self._run("project_drop", project_id)

    async def _run(self, name: str, project_id: str, *more: Argument) -> Any:
        partition = keys.partition_of(project_id, self._partitions)
        return await self._runner.run(name, partition, [project_id, *more])
