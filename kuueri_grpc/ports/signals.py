"""Port: wake-ups between instances."""

from collections.abc import AsyncIterator
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
    """A watched task has new events."""

    project_id: str
    task_id: str


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
class Reconnected:
    """Signals may have been missed: look at everything again."""


Signal = Due | Changed | Revoke | Revoked | Reconnected


class SignalBus(Protocol):
    """Wake-ups between instances. At most once: the store is the truth, a signal only saves time."""

    def listen(self) -> AsyncIterator[Signal]:
        """Yield signals until closed; `Reconnected` first, and after every interruption."""
        ...

    async def follow(self, project_id: str, task_id: str) -> None:
        """Ask for `Changed` of this task; returns when the subscription is in force.

        Each call that returned is undone by one `unfollow`: whoever leaves does not deafen another.
        """
        ...

    async def unfollow(self, project_id: str, task_id: str) -> None:
        """Undo one `follow`: `Changed` of this task stops with the last one."""
        ...

    async def send_revoke(self, instance: str, revoke: Revoke) -> None:
        """Ask `instance` to abort an attempt."""
        ...

    async def send_revoked(self, instance: str, revoked: Revoked) -> None:
        """Tell `instance` that the attempt was aborted."""
        ...
