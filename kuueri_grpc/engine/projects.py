"""Projects and their credentials: made, changed and ended."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from kuueri_grpc.domain.access import Access, Scope
from kuueri_grpc.domain.errors import EmailExists, ProjectNotFound
from kuueri_grpc.engine import token_format
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.deletion import Deletions
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.ports import Credential, KeyIdTaken, Project, ProjectPage, ProjectStore, Rotation


@dataclass(frozen=True, slots=True)
class Registered:
    """A new project with its secrets, which are shown this once."""

    project: Project
    token: str = field(repr=False)
    signing_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token, which is shown this once, and what is kept of it."""

    credential: Credential
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RotatedToken:
    """A new token, which is shown this once, and when the others end (ms)."""

    token: str = field(repr=False)
    old_expire_time_ms: int


@dataclass(frozen=True, slots=True)
class RotatedSecret:
    """A new signing secret, which is shown this once, and when the former one ends (ms)."""

    signing_secret: str = field(repr=False)
    old_expire_time_ms: int


class Projects:
    """What can be done to projects. What ends a token is in force here when it returns, elsewhere soon."""

    def __init__(self, store: ProjectStore, authenticator: Authenticator, revocations: Revocations) -> None:
        self._store = store
        self._authenticator = authenticator
        self._deletions = Deletions(store, revocations)

    async def register(self, email: str, request_id: str = "") -> Registered:
        """Make a project with a full token. Raises `EmailExists`.

        A call that is repeated with its `request_id` answers with the same project, and new secrets in the
        place of those that its caller did not get.
        """
        request = _secret_request(request_id)
        try:
            return await self._make(email, token_format.new_project_id(), request)
        except EmailExists:
            project_id = await self._store.project_of(email) if request else None
            if project_id is None:
                raise
        while True:
            with contextlib.suppress(KeyIdTaken):  # see create_token
                made = await self._make(email, project_id, request)
                self._authenticator.forget(project_id)
                return made

    async def _make(self, email: str, project_id: str, request: str) -> Registered:
        key_id, token = token_format.new_token(project_id)
        signing_secret = token_format.new_signing_secret()
        digest = token_format.digest(token)
        await self._store.create(email, key_id, digest, signing_secret, project_id, request)
        return Registered(await self._store.get(project_id), token, signing_secret)

    async def get(self, project_id: str) -> Project:
        """Return the project. Raises `ProjectNotFound`."""
        return await self._store.get(project_id)

    async def list(self, page_size: int, cursor: str | None) -> ProjectPage:
        """Return one page of all projects. Raises `CursorInvalid`."""
        return await self._store.list_projects(page_size, cursor)

    async def find(self, email: str) -> Project | None:
        """Return the project of an e-mail address, if there is one."""
        project_id = await self._store.project_of(email)
        if project_id is None:
            return None
        try:
            return await self._store.get(project_id)
        except ProjectNotFound:
            return None

    async def create_token(
        self, project_id: str, scope: Scope, display_name: str, ttl_ms: int | None
    ) -> CreatedToken:
        """Make one more token. Raises `ProjectNotFound`, `TooManyTokens`."""
        while True:
            key_id, token = token_format.new_token(project_id)
            credential = Credential(project_id, key_id, token_format.digest(token), scope, display_name)
            with contextlib.suppress(KeyIdTaken):  # of another token: one more try finds a free one
                return CreatedToken(await self._store.add_credential(credential, ttl_ms), token)

    async def tokens(self, project_id: str) -> Sequence[Credential]:
        """Return the valid tokens, the oldest first. Raises `ProjectNotFound`."""
        return await self._store.credentials(project_id)

    async def revoke_token(self, project_id: str, key_id: str) -> None:
        """End a token at once. Raises `ProjectNotFound`, `TokenNotFound`, `LastFullToken`."""
        await self._store.remove_credential(project_id, key_id)
        self._authenticator.forget(project_id)

    async def rotate_token(self, caller: Access, grace_ms: int, request_id: str = "") -> RotatedToken:
        """Make a new full token; the other full ones end after `grace_ms`.

        With a `request_id` the caller can repeat the call, even when its token has ended by it. Raises
        `ProjectNotFound`, `TooManyTokens`; `Unauthenticated` if the token has ended otherwise.
        """
        # With the token's key id, the only one who can repeat it: as good a secret as the token is.
        request = _secret_request(request_id)
        while True:
            key_id, token = token_format.new_token(caller.project_id)
            digest = token_format.digest(token)
            rotation = Rotation(caller.project_id, caller.key_id, key_id, digest, grace_ms, request)
            with contextlib.suppress(KeyIdTaken):  # see create_token
                old_expire_ms = await self._store.rotate_token(rotation)
                self._authenticator.forget(caller.project_id)
                return RotatedToken(token, old_expire_ms)

    async def rotate_signing_secret(self, project_id: str, grace_ms: int) -> RotatedSecret:
        """Return a new signing secret; the former one signs beside it for `grace_ms`.

        Raises `ProjectNotFound`; `TooManySigningSecrets`.
        """
        secret = token_format.new_signing_secret()
        old_expire_ms = await self._store.rotate_signing_secret(project_id, secret, grace_ms)
        return RotatedSecret(secret, old_expire_ms)

    async def set_task_limit(self, project_id: str, limit: int | None) -> Project:
        """Set how many live tasks the project may have; None: as many as any other.

        Returns the project. Raises `ProjectNotFound`.
        """
        await self._store.set_task_limit(project_id, limit)
        return await self._store.get(project_id)

    async def delete(self, project_id: str) -> None:
        """Remove the project with all that it has; return when no attempt of it can start any more.

        What breaks off after it began is finished by `finish_deletions`. Raises `ProjectNotFound`.
        """
        await self._store.close(project_id)
        self._authenticator.forget(project_id)
        await self._deletions.finish(project_id)

    async def finish_deletions(self) -> bool:
        """Go on with what others began, and maybe did not finish; see `Deletions.finish_all`."""
        return await self._deletions.finish_all()

    async def epoch(self) -> str:
        """Return the identity of the store's data."""
        return await self._store.epoch()


def _secret_request(request_id: str) -> str:
    """Return what is kept of a request id that is as good as a secret; empty for none."""
    return hashlib.sha256(request_id.encode()).hexdigest() if request_id else ""
