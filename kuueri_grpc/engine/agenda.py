"""When to look at which partition: what the scheduler sleeps by."""

from collections.abc import Iterable


class Agenda:
    """The next instant (ms) of each partition that has anything due or leased.

    A plain dictionary: looking through a few hundred partitions costs less than what follows, and
    nothing in it grows stale.
    """

    def __init__(self) -> None:
        self._at: dict[int, int] = {}

    def advance(self, partition: int, at_ms: int) -> bool:
        """Look at `partition` at `at_ms` at the latest; return whether that is sooner than before."""
        known = self._at.get(partition)
        if known is not None and known <= at_ms:
            return False
        self._at[partition] = at_ms
        return True

    def take(self, partitions: Iterable[int]) -> dict[int, int]:
        """Strike out partitions that are being looked at; return the instants that they had.

        What comes in during the look is then kept beside what the look finds: it may be newer.
        """
        return {partition: self._at.pop(partition) for partition in partitions if partition in self._at}

    def next_ms(self) -> int | None:
        """Return the earliest instant, None if there is none."""
        return min(self._at.values(), default=None)

    def due(self, now_ms: int) -> list[int]:
        """Return the partitions to look at now, earliest first, without changing the agenda."""
        ready = sorted((at, partition) for partition, at in self._at.items() if at <= now_ms)
        return [partition for _, partition in ready]
