"""The steps that a closed project is removed in. Each can be repeated, by anybody, at any time."""

from typing import Any

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import EndStep, Lease, RevokedAttempt
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.scripts import Argument, ScriptRunner, run_alone

#: Tasks in one script call: long calls hold up every other client of the store.
_TASK_CHUNK = 100
#: Keys that one script call looks at, of all there are.
_SCAN_CHUNK = 1_000


class ProjectDeletion:
    """`close` has been called before all of this, see `ports.ProjectStore`."""

    def __init__(self, client: Commands, runner: ScriptRunner, partitions: int) -> None:
        self._client = client
        self._runner = runner
        self._partitions = partitions

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
        """Cancel some tasks, the oldest first."""
        after, attempts = await self._run("project_end", project_id, cursor or "-inf", _TASK_CHUNK)
        revoked = [
            RevokedAttempt(Lease(project_id, text(task_id), text(token)), text(holder), lease_left_ms)
            for task_id, token, holder, lease_left_ms in attempts
        ]
        return EndStep(revoked, text(after) or None)

    async def erase_tasks(self, project_id: str) -> bool:
        """Remove some tasks."""
        left: int = await self._run("project_erase", project_id, _TASK_CHUNK)
        return left == 0

    async def drop(self, project_id: str) -> None:
        """Remove the rest.

        The project itself goes last: as long as it is there, it is found by `closed`, and its e-mail
        address, which is in a slot of its own, is known.
        """
        cursor = "0"
        while (cursor := text(await self._run("project_forget", project_id, cursor, _SCAN_CHUNK))) != "0":
            pass
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
