"""Port: the processes that serve one store, as they announce themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Instance:
    """One process. `roles`: what it does (`api`, `scheduler`). `partitions`: how many it looks at first.

    `keys`: ids of the encryption keys that it has, first the one that it seals with.
    """

    instance_id: str
    version: str
    host: str
    pid: int
    roles: tuple[str, ...]
    start_time_ms: int
    in_flight: int
    partitions: int
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """An instance as it last announced itself, and how long ago that was."""

    instance: Instance
    age_ms: int


class InstanceRegistry(Protocol):
    """Who serves this store. Nothing depends on it being right: claims are atomic without it."""

    async def announce(self, instance: Instance) -> Sequence[Sighting]:
        """Say that an instance lives; return all that do, this one among them.

        Who has been silent for long is forgotten by that.
        """
        ...

    async def withdraw(self, instance_id: str) -> None:
        """Forget an instance that is stopping."""
        ...

    async def sightings(self) -> Sequence[Sighting]:
        """Return all instances that were not forgotten, the oldest first."""
        ...
