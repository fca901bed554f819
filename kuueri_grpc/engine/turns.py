"""How many tasks a claim asks each partition for."""

from collections.abc import Sequence

#: What a partition with a backlog is asked for at least. Most of what a script call with one task costs is
#: the call; but the longer a turn, the longer the others wait for theirs: see docs/performance.md.
_TURN = 16


class Turns:
    """Divides the free slots among the partitions where something is due, in their order.

    Each is asked for an equal share. Where there are so many that it is little, those that are known to have
    a backlog are asked for a turn of several tasks instead, and fewer have their turn in one claim. Nothing
    is known of the others: mostly one task is due, and slots set aside for more would stay empty.

    Args:
        most: tasks that one partition is asked for at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._backlogs: set[int] = set()

    def ended(self, partition: int, *, backlog: bool) -> None:
        """A partition had its turn; `backlog`: more is due there."""
        if backlog:
            self._backlogs.add(partition)
        else:
            self._backlogs.discard(partition)

    def limits(self, partitions: Sequence[int], free: int) -> dict[int, int]:
        """Return how many tasks to ask partitions for, together `free` (1 or more) at the most.

        The last of them are left out where nothing is left for them.
        """
        even = min(self._most, max(1, free // len(partitions)))
        turn = min(self._most, max(_TURN, even))
        limits: dict[int, int] = {}
        for partition in partitions:
            if free <= 0:
                break
            limits[partition] = min(free, turn if partition in self._backlogs else even)
            free -= limits[partition]
        return limits
