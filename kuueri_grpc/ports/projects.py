"""Port: projects and their credentials."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.ports.execution import Lease


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant. `task_in_queue` counts its live tasks."""

    project_id: str
    email: str
    create_time_ms: int
    task_in_queue: int
    task_in_queue_limit: int


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """Some projects, and where the next page begins; `cursor` None: there are no more."""

    projects: Sequence[Project]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored token: only its SHA-256 is kept. `expire_time_ms` None: until rotated or revoked.

    `repeat_until_ms`: until when it may repeat the rotation that ended it, though it has expired (0: not
    at all). `create_time_ms` None: a version made it that did not note it.
    """

    project_id: str
    key_id: str
    digest: bytes
    scope: Scope = Scope.FULL
    display_name: str = ""
    create_time_ms: int | None = None
    expire_time_ms: int | None = None
    repeat_until_ms: int = 0


class KeyIdTaken(Exception):
    """The project has another credential with this key id: its random part is short. Take another one."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What RotateToken asks for: `key_id` and `digest` are the new token's, `caller` the calling one's.

    `request` identifies a call that may be repeated, also when the calling token has ended by it; empty
    if it may not.
    """

    project_id: str
    caller: str
    key_id: str
    digest: bytes
    grace_ms: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class RevokedAttempt:
    """An attempt that was taken from its holder, which may go on for `lease_left_ms` without knowing."""

    lease: Lease
    holder: str
    lease_left_ms: int


@dataclass(frozen=True, slots=True)
class EndStep:
    """One step of ending a project's tasks: the attempts that it took away, and where the next one goes on.

    `cursor` None: there are no more tasks. `removed`: tasks that were not in flight, and are gone; `left`:
    tasks that are still kept.
    """

    revoked: Sequence[RevokedAttempt]
    cursor: str | None
    removed: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class EraseStep:
    """One step of removing what is kept of a project's tasks: how many it removed, and how many are left."""

    removed: int
    left: int


class ProjectStore(Protocol):
    """Projects and their credentials."""

    async def create(
        self,
        email: str,
        key_id: str,
        digest: bytes,
        signing_secret: str,
        project_id: str,
        request: str = "",
    ) -> None:
        """Make a project. Raises `EmailExists` (addresses compare case-insensitively).

        With the id of the project that `project_of` names, and the `request` that made it (empty: none) ten
        minutes ago or less, the credential and the secret take the place of its first ones; not once that
        credential has been rotated or removed.
        """
        ...

    async def project_of(self, email: str) -> str | None:
        """Return the id of the project that an e-mail address belongs to, or is claimed for, if any."""
        ...

    async def get(self, project_id: str) -> Project:
        """Return the project. Raises `ProjectNotFound`."""
        ...

    async def list_projects(self, page_size: int, cursor: str | None) -> ProjectPage:
        """Return up to `page_size` projects that are not being deleted, in no particular order, none twice.

        `cursor`: of the page before, None for the first one. Raises `CursorInvalid`.
        """
        ...

    async def credential(self, project_id: str, key_id: str) -> Credential | None:
        """Return the credential with that key id, None if there is none."""
        ...

    async def credentials(self, project_id: str) -> list[Credential]:
        """Return the credentials that have not expired. Raises `ProjectNotFound`."""
        ...

    async def add_credential(self, credential: Credential, ttl_ms: int | None) -> Credential:
        """Add a credential that expires `ttl_ms` from now (None: not); return it with its times.

        Raises `ProjectNotFound`; `TooManyTokens`; `KeyIdTaken`.
        """
        ...

    async def remove_credential(self, project_id: str, key_id: str) -> None:
        """End a credential at once.

        Raises `ProjectNotFound`; `TokenNotFound`; `LastFullToken`.
        """
        ...

    async def rotate_token(self, rotation: Rotation) -> int:
        """Add a full credential; the other full ones end after the grace time. Returns that instant (ms).

        A repeated rotation (same caller and request) puts the new credential in the place of the one it
        added before. Raises `ProjectNotFound`; `TooManyTokens`; `KeyIdTaken`; `Unauthenticated` if the
        calling credential has ended.
        """
        ...

    async def rotate_signing_secret(self, project_id: str, secret: str, grace_ms: int) -> int:
        """Sign with `secret` from now on, with the former one beside it for `grace_ms`.

        Returns the instant at which that ends, by the store's clock (ms).

        Raises `ProjectNotFound`; `TooManySigningSecrets`.
        """
        ...

    async def set_task_limit(self, project_id: str, limit: int | None) -> None:
        """Let the project have `limit` live tasks from now on, on all instances.

        None: what each instance gives every project. Raises `ProjectNotFound`.
        """
        ...

    async def close(self, project_id: str) -> None:
        """Begin to delete a project: its credentials end, and it takes no task any more.

        From here on `end_tasks`, `erase_tasks` and `drop` can be repeated by anybody, from any point, until
        the project is gone; `closed` names it. Raises `ProjectNotFound`.
        """
        ...

    async def closed(self) -> list[str]:
        """Return the projects that were closed and are not gone yet."""
        ...

    async def claim_deletion(self, project_id: str, lasts_ms: int) -> bool:
        """Be the one that deletes a closed project for `lasts_ms` from now; False: another process is.

        Only for economy: the steps do no harm beside those of another. Raises `ProjectNotFound` when the
        project is gone, or is not closed.
        """
        ...

    async def end_tasks(self, project_id: str, cursor: str | None) -> EndStep:
        """Cancel tasks in flight of a closed project and remove others, from a cursor on (None: first).

        A bounded number of them.
        """
        ...

    async def erase_tasks(self, project_id: str) -> EraseStep:
        """Remove tasks of a closed project whose attempts were stopped, a bounded number."""
        ...

    async def forget_requests(self, project_id: str) -> bool:
        """Remove what a closed project's request ids are known by, a bounded number; True: all are gone."""
        ...

    async def drop(self, project_id: str) -> None:
        """Remove the rest of a closed project without tasks, and free its e-mail address."""
        ...

    async def epoch(self) -> str:
        """Return the identity of the store's data; it differs after the data was lost."""
        ...
