"""Port: wake-ups between instances."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from kuueri_grpc.ports.execution import Lease


@dataclass(frozen=True, slots=True)
class Due:
    """A partition has a new earliest due instant."""

    partition: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A followed task has new events; `task_id` None: a followed project has, in any of its tasks."""

    project_id: str
    task_id: str | None


@dataclass(frozen=True, slots=True)
class Revoke:
    """Another instance asks this one to abort an attempt and answer with `acknowledge`."""

    lease: Lease
    reply_to: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """The answer to `Revoke`: the attempt will not be sent, or was aborted."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class CredentialsChanged:
    """Credentials of a project ended: what is remembered of them counts no more."""

    project_id: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Another instance let in so many calls of these projects since it last said so."""

    calls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reconnected:
    """Signals may have been missed: look at everything again."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """No signals arrive until the next `Reconnected`; `why` is fit for the operator."""

    why: str


Signal = Due | Changed | Revoke | Revoked | CredentialsChanged | Spent | Reconnected | Disconnected


class SignalBus(Protocol):
    """Wake-ups between instances. At most once: the store is the truth, a signal only saves time."""

    def listen(self) -> AsyncIterator[Signal]:
        """Yield signals until closed.

        `Reconnected` before the first one and after every interruption, `Disconnected` when one begins.
        A connection that says nothing for long is asked for a sign of life.
        """
        ...

    async def reconnect(self) -> None:
        """Have `listen` connect anew: the connection may lead to a server that is not the store any more."""
        ...

    async def follow(self, project_id: str, task_id: str | None) -> None:
        """Ask for `Changed` of a task, or of a whole project; returns when the subscription is in force."""
        ...

    def unfollow(self, project_id: str, task_id: str | None) -> None:
        """Undo one `follow`; the last one stops the signals. Nobody can be cancelled as he leaves."""
        ...

    async def send_revoke(self, instance: str, revoke: Revoke) -> None:
        """Ask `instance` to abort an attempt."""
        ...

    async def send_revoked(self, instance: str, revoked: Revoked) -> None:
        """Tell `instance` that the attempt was aborted."""
        ...

    async def send_spent(self, spent: Spent) -> None:
        """Tell all other instances what was let in here."""
        ...
