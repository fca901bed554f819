"""Who looks at which partition first: an optimisation, as claims are atomic whoever makes them.

Rendezvous hashing: every instance computes the same ranking of the live ones for each partition, without
a word between them; when one comes or goes, only the partitions that it ranks first in change hands.
"""

import hashlib
from collections.abc import Iterable, Sequence

#: How much later than the one before it an instance looks, and the most that it waits: enough for a claim
#: to be made in, little enough for nobody to notice when the first one is gone.
_STEP_MS = 20
_LONGEST_MS = 200


class Ownership:
    """An instance's rank in each partition, 0 for the one that looks first."""

    def __init__(self, ranks: Sequence[int]) -> None:
        self._ranks = tuple(ranks)

    def delay_ms(self, partition: int) -> int:
        """Return how long after a due instant this instance looks at the partition."""
        return min(_LONGEST_MS, self._ranks[partition] * _STEP_MS)

    @property
    def owned(self) -> int:
        """How many partitions this instance looks at first."""
        return self._ranks.count(0)


def alone(partitions: int) -> Ownership:
    """Return what an instance has that knows of no other."""
    return Ownership([0] * partitions)


def ranked(partitions: int, instance: str, others: Iterable[str]) -> Ownership:
    """Return the ranks of `instance` among itself and `others`, which hold the role of a scheduler."""
    rivals = set(others) - {instance}
    ranks = []
    for partition in range(partitions):
        own = _weight(partition, instance)
        ranks.append(sum(_weight(partition, rival) > own for rival in rivals))
    return Ownership(ranks)


def _weight(partition: int, instance: str) -> bytes:
    return hashlib.blake2b(f"{partition}:{instance}".encode(), digest_size=16).digest()
