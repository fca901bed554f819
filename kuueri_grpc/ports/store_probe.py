"""Port: whether the store serves, and whether it is still the one that it was."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class StoreKind(StrEnum):
    """What a store is: one that this server runs itself, one of the operator, a cluster of the operator."""

    EMBEDDED = "EMBEDDED"
    EXTERNAL = "EXTERNAL"
    CLUSTER = "CLUSTER"


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """What a store says it is; `product` and `version` are empty where it does not say."""

    kind: StoreKind
    product: str = ""
    version: str = ""


class UnfitStore(Exception):
    """The store answers, and must not be used as it is; the text says why and what to do about it."""


class StoreProbe(Protocol):
    """Looks at the store as a whole, on a connection of its own."""

    async def check(self) -> str:
        """Return the epoch of the store's data: it differs after the data was lost.

        A store that came back empty is initialised by this. While the store is unfit, every other call to
        it is refused with `StoreUnavailable`.

        Raises:
            UnfitStore: it evicts tasks, has another partition count, is too old ...
            StoreUnavailable: it does not answer, or refuses writes (being full is not refusing: see OOM).
        """
        ...
