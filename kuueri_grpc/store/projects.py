"""The `ProjectStore` port: projects, credentials, signing secrets."""

from typing import Any

from kuueri_grpc.domain.errors import (
    EmailExists,
    LastFullToken,
    ProjectNotFound,
    StoreUnavailable,
    TokenNotFound,
    TooManySigningSecrets,
    TooManyTokens,
    Unauthenticated,
)
from kuueri_grpc.ports import Credential, EndStep, EraseStep, KeyIdTaken, Project, ProjectPage, Rotation
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.credentials import pack_credential, unpack_credential
from kuueri_grpc.store.deletion import ProjectDeletion
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.project_listing import ProjectListing
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.vault import Vault

#: An e-mail address is claimed this long before its project exists; a crash in between frees it again.
_EMAIL_CLAIM_MS = 60_000
#: Credentials of one project.
MOST_CREDENTIALS = 100
#: Secrets that one project signs with: each makes every request of it longer, and dearer to make.
MOST_SIGNING_SECRETS = 10
#: How long a registration or a rotation whose answer was lost can be repeated.
_REPEAT_MS = 600_000


class RedisProjectStore:
    """`ports.ProjectStore` on database 0."""

    def __init__(
        self, client: Commands, runner: ScriptRunner, partitions: int, queue_limit: int, vault: Vault
    ) -> None:
        self._client = client
        self._runner = runner
        self._observer = runner.observer
        self._partitions = partitions
        self._queue_limit = queue_limit
        self._deletion = ProjectDeletion(client, runner, partitions)
        self._listing = ProjectListing(runner, partitions, queue_limit)
        self._vault = vault

    def _partition(self, project_id: str) -> int:
        return keys.partition_of(project_id, self._partitions)

    async def create(
        self,
        email: str,
        key_id: str,
        digest: bytes,
        signing_secret: str,
        project_id: str,
        request: str = "",
    ) -> None:
        """See `ports.ProjectStore`.

        The address lives in a slot of its own, so this is three steps: claim it for a minute, make the
        project, keep the claim. A crash in between leaves a project nobody was told of, or a claim without
        one, which a repeated call takes over.
        """
        claim = keys.email(email)
        with self._observer.call("email"):
            claimed = await self._client.set(claim, project_id, nx=True, px=_EMAIL_CLAIM_MS)
            # A repeated call after a lost answer finds its own claim, or that of the call it repeats.
            if not claimed and await self._client.get(claim) != project_id.encode():
                raise EmailExists(email)
        signing = codec.pack_signing([(self._vault.seal_signing(project_id, signing_secret), None)])
        answer = await self._runner.run(
            "project_create",
            self._partition(project_id),
            [
                project_id,
                email,
                key_id,
                pack_credential(digest),
                signing,
                request,
                _REPEAT_MS,
                "1",
                keys.CREDENTIALS_CHANNEL,
            ],
        )
        match answer:
            case [b"OK"]:
                pass
            case [b"EXISTS"]:
                raise EmailExists(email)
            case [b"TAKEN"]:
                raise KeyIdTaken(key_id)
            case _:
                raise codec.CorruptRecord(f"project_create.lua answered {answer!r}")
        with self._observer.call("email"):
            await self._client.set(claim, project_id)

    async def project_of(self, email: str) -> str | None:
        """See `ports.ProjectStore`."""
        with self._observer.call("email"):
            kept = await self._client.get(keys.email(email))
        return None if kept is None else text(kept)

    async def get(self, project_id: str) -> Project:
        """See `ports.ProjectStore`."""
        with self._observer.call("project"):
            kept = await self._client.hgetall(keys.project(self._partition(project_id), project_id))
        if not kept or b"closed" in kept:
            raise ProjectNotFound(project_id)
        return Project(
            project_id=project_id,
            email=text(kept[b"email"]),
            create_time_ms=int(kept[b"create"]),
            task_in_queue=int(kept[b"taskInQueue"]),
            task_in_queue_limit=int(kept.get(b"taskInQueueLimit", self._queue_limit)),
        )

    async def list_projects(self, page_size: int, cursor: str | None) -> ProjectPage:
        """See `ports.ProjectStore`."""
        return await self._listing.page(page_size, cursor)

    async def credential(self, project_id: str, key_id: str) -> Credential | None:
        """See `ports.ProjectStore`."""
        with self._observer.call("credential"):
            kept = await self._client.hget(keys.credentials(self._partition(project_id), project_id), key_id)
        return None if kept is None else unpack_credential(project_id, key_id, _bytes(kept))

    async def credentials(self, project_id: str) -> list[Credential]:
        """See `ports.ProjectStore`."""
        with self._observer.call("credentials"):
            seconds, microseconds = await self._client.time()
            kept = await self._client.hgetall(keys.credentials(self._partition(project_id), project_id))
        if not kept:
            raise ProjectNotFound(project_id)
        now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
        found = [unpack_credential(project_id, text(key_id), _bytes(line)) for key_id, line in kept.items()]
        live = [one for one in found if one.expire_time_ms is None or one.expire_time_ms > now_ms]
        return sorted(live, key=lambda one: (one.create_time_ms or 0, one.key_id))

    async def add_credential(self, credential: Credential, ttl_ms: int | None) -> Credential:
        """See `ports.ProjectStore`."""
        packed = pack_credential(credential.digest, credential.scope, credential.display_name)
        ttl: Argument = "" if ttl_ms is None else ttl_ms
        create_ms, expire_ms = await self._run(
            "credential_add", credential.project_id, credential.key_id, packed, ttl, MOST_CREDENTIALS
        )
        return Credential(
            project_id=credential.project_id,
            key_id=credential.key_id,
            digest=credential.digest,
            scope=credential.scope,
            display_name=credential.display_name,
            create_time_ms=create_ms,
            expire_time_ms=expire_ms or None,
        )

    async def remove_credential(self, project_id: str, key_id: str) -> None:
        """See `ports.ProjectStore`."""
        await self._run("credential_remove", project_id, key_id, keys.CREDENTIALS_CHANNEL, key_id=key_id)

    async def rotate_token(self, rotation: Rotation) -> int:
        """See `ports.ProjectStore`."""
        (old_expire_ms,) = await self._run(
            "rotate_token",
            rotation.project_id,
            rotation.caller,
            rotation.key_id,
            pack_credential(rotation.digest),
            rotation.grace_ms,
            rotation.request,
            _REPEAT_MS,
            MOST_CREDENTIALS,
            keys.CREDENTIALS_CHANNEL,
        )
        return int(old_expire_ms)

    async def rotate_signing_secret(self, project_id: str, secret: str, grace_ms: int) -> int:
        """See `ports.ProjectStore`."""
        sealed = self._vault.seal_signing(project_id, secret)
        (old_expire_ms,) = await self._run(
            "rotate_signing", project_id, sealed, grace_ms, MOST_SIGNING_SECRETS
        )
        return int(old_expire_ms)

    async def set_task_limit(self, project_id: str, limit: int | None) -> None:
        """See `ports.ProjectStore`."""
        await self._run("project_limit", project_id, "" if limit is None else limit)

    async def close(self, project_id: str) -> None:
        """See `ports.ProjectStore`."""
        await self._run("project_close", project_id, keys.CREDENTIALS_CHANNEL)

    async def closed(self) -> list[str]:
        """See `ports.ProjectStore`."""
        return await self._deletion.closed()

    async def end_tasks(self, project_id: str, cursor: str | None) -> EndStep:
        """See `ports.ProjectStore`."""
        return await self._deletion.end_tasks(project_id, cursor)

    async def claim_deletion(self, project_id: str, lasts_ms: int) -> bool:
        """See `ports.ProjectStore`."""
        return await self._deletion.claim(project_id, lasts_ms)

    async def erase_tasks(self, project_id: str) -> EraseStep:
        """See `ports.ProjectStore`."""
        return await self._deletion.erase_tasks(project_id)

    async def forget_requests(self, project_id: str) -> bool:
        """See `ports.ProjectStore`."""
        return await self._deletion.forget_requests(project_id)

    async def drop(self, project_id: str) -> None:
        """See `ports.ProjectStore`."""
        await self._deletion.drop(project_id)

    async def epoch(self) -> str:
        """See `ports.ProjectStore`."""
        with self._observer.call("epoch"):
            kept = await self._client.hget(keys.STORE, "epoch")
        if not kept:
            # It came back empty, and is about to be initialised.
            raise StoreUnavailable("the store does not serve now: it was emptied a moment ago")
        return text(kept)

    async def _run(self, name: str, project_id: str, *more: Argument, key_id: str = "") -> list[Any]:
        answer = await self._runner.run(name, self._partition(project_id), [project_id, *more])
        match answer:
            case [b"OK", *rest]:
                return rest
            case [b"MISSING"]:
                raise ProjectNotFound(project_id)
            case [b"NO_TOKEN"]:
                raise TokenNotFound(key_id)
            case [b"LAST"]:
                raise LastFullToken(key_id)
            case [b"FULL"]:
                raise TooManyTokens(project_id, MOST_CREDENTIALS)
            case [b"SECRETS_FULL"]:
                raise TooManySigningSecrets(project_id, MOST_SIGNING_SECRETS)
            case [b"TAKEN"]:
                raise KeyIdTaken(key_id)
            case [b"ENDED"]:
                raise Unauthenticated("the token is not valid any more: it was rotated")
            case _:
                raise codec.CorruptRecord(f"{name}.lua answered {answer!r}")


def _bytes(kept: bytes | str) -> bytes:
    return kept if isinstance(kept, bytes) else kept.encode()
