"""Sealing what is kept anew, under the newest key, beside servers that live.

Nothing is remembered between two runs: a record says itself under which key it is sealed, so a run that was
cut short is taken up by the next. A record is replaced only if it is still the one that was read.
"""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.vault import Vault

#: Tasks that one script call looks at.
BATCH = 200
#: Keys that one SCAN looks at.
_SCAN_CHUNK = 1_000
#: So much of a request tells it from any other: its head and its nonce are in it.
_MARK_BYTES = 64


@dataclass(slots=True)
class Tally:
    """What a run has met so far.

    `projects` are done of `of_projects`; `records` are requests that were looked at; `resealed` and
    `unreadable` count signing secrets too, a project's as one.
    """

    projects: int = 0
    of_projects: int = 0
    records: int = 0
    resealed: int = 0
    unreadable: int = 0


class Rotation:
    """Seals the records of all projects under the newest key of a vault."""

    def __init__(
        self, client: Commands, runner: ScriptRunner, partitions: int, vault: Vault, batch: int = BATCH
    ) -> None:
        self._client = client
        self._runner = runner
        self._partitions = partitions
        self._vault = vault
        self._batch = batch

    async def run(self) -> AsyncGenerator[Tally, None]:
        """Go over everything once; give the tally after each step. A second time finds nothing to do.

        What was there at the beginning is sealed under the newest key at the end, but for records that do
        not open. Raises `StoreUnavailable`.
        """
        projects = await self._projects()
        tally = Tally(of_projects=len(projects))
        for project_id in projects:
            cursor: tuple[str, str] | None = ("-inf", "")
            while cursor is not None:
                cursor = await self._step(project_id, cursor, tally)
                yield tally
            tally.projects += 1
        yield tally

    async def _projects(self) -> list[str]:
        """Return the ids of all projects."""
        stem = keys.project(0, "").partition("}")[2]
        # A pattern of SCAN finds it anywhere in a name: in what a caller has chosen, too.
        name_of_project = re.compile(rf"\{{\d+\}}{stem}([^:/]+)")
        nodes: list[Commands] = [self._client]
        if isinstance(self._client, ClusterClient):
            with outages_mapped():
                topology = await self._client.nodes.look()
            nodes = [self._client.nodes.client(address) for address in sorted(topology.primaries)]
        found: set[str] = set()
        for node in nodes:
            cursor = 0
            while True:
                with outages_mapped():
                    cursor, names = await node.scan(cursor, match=f"*{stem}*", count=_SCAN_CHUNK)
                found.update(match[1] for name in names if (match := name_of_project.fullmatch(text(name))))
                if cursor == 0:
                    break
        return sorted(found)

    async def _step(self, project_id: str, cursor: tuple[str, str], tally: Tally) -> tuple[str, str] | None:
        """Look at some tasks of a project; return where to go on, None at its end."""
        signing, looked, flat, score, task_id = await self._run(
            "stale", project_id, self._vault.newest_head, *cursor, self._batch
        )
        tally.records += looked
        secrets = self._signing(project_id, signing, tally) if cursor[0] == "-inf" else ("", "")
        requests: list[Argument] = []
        pairs = iter(flat)
        for task, kept in zip(pairs, pairs, strict=True):
            try:
                sealed = self._vault.reseal_request(project_id, text(task), kept)
            except codec.CorruptRecord:
                tally.unreadable += 1
            else:
                requests += (task, kept[:_MARK_BYTES], sealed)
        if requests or secrets[0]:
            tally.resealed += await self._run("reseal", project_id, *secrets, len(requests) // 3, *requests)
        return (text(score), text(task_id)) if score else None

    def _signing(self, project_id: str, kept: bytes, tally: Tally) -> tuple[bytes, str] | tuple[str, str]:
        try:
            sealed = self._vault.reseal_signing(project_id, kept) if kept else None
        except codec.CorruptRecord:
            tally.unreadable += 1
            sealed = None
        return ("", "") if sealed is None else (kept, sealed)

    async def _run(self, name: str, project_id: str, *arguments: Argument) -> Any:
        partition = keys.partition_of(project_id, self._partitions)
        return await self._runner.run(name, partition, [project_id, *arguments])
