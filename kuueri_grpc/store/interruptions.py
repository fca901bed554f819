"""Partitions of a cluster whose node does not serve, and when tasks are taken from them again."""

import random
import time
from collections.abc import Iterable

#: How long to leave a partition alone that could not be asked.
_LEAVE_ALONE_MS = (250, 500)


class Interruptions:
    """What is known of the partitions that are, or were a moment ago, without a node.

    While nobody could renew leases they may have run out, though their holders live. The first claim
    would take the tasks from them, and each would be sent twice: so when a partition serves again, the
    holders are given time to renew before anything is claimed there.

    Args:
        regain_ms: how long that is.
    """

    def __init__(self, regain_ms: int) -> None:
        self._regain_ms = regain_ms
        # By partition: None while it does not serve, then when it may be claimed from (monotonic ms).
        self._claimable_at: dict[int, float | None] = {}

    def began(self, partition: int) -> int:
        """A partition could not be asked. Return in how many ms to look at it again."""
        self._claimable_at[partition] = None
        return random.randint(*_LEAVE_ALONE_MS)  # noqa: S311 - not a secret

    def ended(self, partition: int) -> int:
        """A partition serves again. Return in how many ms it may be claimed from."""
        self._claimable_at[partition] = _now_ms() + self._regain_ms
        return self._regain_ms

    def unserved(self, partitions: Iterable[int]) -> list[int]:
        """Return those that did not serve when they were last asked."""
        return [p for p in partitions if self._claimable_at.get(p, 0.0) is None]

    def wait_ms(self, partition: int) -> int:
        """Return in how many ms a partition may be claimed from; 0 for at once."""
        claimable_at = self._claimable_at.get(partition)
        if claimable_at is None:
            return 0
        wait_ms = claimable_at - _now_ms()
        if wait_ms <= 0:
            del self._claimable_at[partition]
            return 0
        return int(wait_ms) + 1


def _now_ms() -> float:
    return time.monotonic() * 1_000
