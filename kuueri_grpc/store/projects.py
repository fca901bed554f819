"""The `ProjectStore` port: projects, credentials, signing secrets."""

import json

from redis.asyncio import Redis

from kuueri_grpc.domain.errors import EmailExists, ProjectNotFound
from kuueri_grpc.ports import Credential, Project
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.connection import text
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.scripts import ScriptRunner

#: An e-mail address is claimed this long before its project exists; a crash in between frees it again.
_EMAIL_CLAIM_MS = 60_000


class RedisProjectStore:
    """`ports.ProjectStore` on database 0."""

    def __init__(self, client: Redis, runner: ScriptRunner, partitions: int, queue_limit: int) -> None:
        self._client = client
        self._runner = runner
        self._partitions = partitions
        self._queue_limit = queue_limit

    def _partition(self, project_id: str) -> int:
        return keys.partition_of(project_id, self._partitions)

    async def create(
        self, email: str, key_id: str, digest: bytes, signing_secret: str, project_id: str
    ) -> None:
        """See `ports.ProjectStore`.

        The address lives in a slot of its own, so this is three steps: claim it for a minute, make the
        project, keep the claim. A crash in between leaves a project nobody was told of.
        """
        claim = keys.email(email)
        async with outages_mapped():
            claimed = await self._client.set(claim, project_id, nx=True, px=_EMAIL_CLAIM_MS)
            # A repeated call after a lost answer finds its own claim.
            if not claimed and await self._client.get(claim) != project_id.encode():
                raise EmailExists(email)
        signing = codec.pack_signing([(signing_secret, None)])
        await self._runner.run(
            "project_create",
            self._partition(project_id),
            [project_id, email, key_id, _pack_credential(digest, None), signing],
        )
        async with outages_mapped():
            await self._client.set(claim, project_id)

    async def get(self, project_id: str) -> Project:
        """See `ports.ProjectStore`."""
        async with outages_mapped():
            kept = await self._client.hgetall(keys.project(self._partition(project_id), project_id))
        if not kept:
            raise ProjectNotFound(project_id)
        return Project(
            project_id=project_id,
            email=text(kept[b"email"]),
            create_time_ms=int(kept[b"create"]),
            task_in_queue=int(kept[b"taskInQueue"]),
            task_in_queue_limit=int(kept.get(b"taskInQueueLimit", self._queue_limit)),
        )

    async def credential(self, project_id: str, key_id: str) -> Credential | None:
        """See `ports.ProjectStore`."""
        async with outages_mapped():
            kept = await self._client.hget(keys.credentials(self._partition(project_id), project_id), key_id)
        if kept is None:
            return None
        record = json.loads(kept)
        return Credential(project_id, bytes.fromhex(record["h"]), record.get("x"))

    async def rotate_token(self, project_id: str, key_id: str, digest: bytes, grace_ms: int) -> None:
        """See `ports.ProjectStore`."""
        answer = await self._runner.run(
            "rotate_token",
            self._partition(project_id),
            [project_id, key_id, _pack_credential(digest, None), grace_ms],
        )
        if answer == [b"MISSING"]:
            raise ProjectNotFound(project_id)

    async def rotate_signing_secret(self, project_id: str, secret: str, grace_ms: int) -> None:
        """See `ports.ProjectStore`."""
        answer = await self._runner.run(
            "rotate_signing", self._partition(project_id), [project_id, secret, grace_ms]
        )
        if answer == [b"MISSING"]:
            raise ProjectNotFound(project_id)

    async def epoch(self) -> str:
        """See `ports.ProjectStore`."""
        async with outages_mapped():
            kept = await self._client.hget(keys.STORE, "epoch")
        return text(kept)


def _pack_credential(digest: bytes, expire_time_ms: int | None) -> str:
    record: dict[str, object] = {"h": digest.hex()}
    if expire_time_ms is not None:
        record["x"] = expire_time_ms
    return json.dumps(record, separators=(",", ":"))
