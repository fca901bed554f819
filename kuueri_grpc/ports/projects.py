"""Port: projects and their credentials."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant. `task_in_queue` counts its live tasks."""

    project_id: str
    email: str
    create_time_ms: int
    task_in_queue: int
    task_in_queue_limit: int


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored token: only its SHA-256 is kept. `expire_time_ms` None: until rotated."""

    project_id: str
    digest: bytes
    expire_time_ms: int | None = None


class ProjectStore(Protocol):
    """Projects and their credentials."""

    async def create(
        self, email: str, key_id: str, digest: bytes, signing_secret: str, project_id: str
    ) -> None:
        """Make a project. Raises `EmailExists` (addresses compare case-insensitively)."""
        ...

    async def get(self, project_id: str) -> Project:
        """Return the project. Raises `ProjectNotFound`."""
        ...

    async def credential(self, project_id: str, key_id: str) -> Credential | None:
        """Return the credential with that key id, None if there is none."""
        ...

    async def rotate_token(self, project_id: str, key_id: str, digest: bytes, grace_ms: int) -> None:
        """Add a credential; all others end after `grace_ms`. Raises `ProjectNotFound`."""
        ...

    async def rotate_signing_secret(self, project_id: str, secret: str, grace_ms: int) -> None:
        """Sign with `secret` from now on, with the former one beside it for `grace_ms`.

        Raises `ProjectNotFound`.
        """
        ...

    async def epoch(self) -> str:
        """Return the identity of the store's data; it differs after the data was lost."""
        ...
