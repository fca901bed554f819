"""How many bytes of requests a claim asks each partition for."""

from collections.abc import Sequence

#: What one claim brings at the most, and a task: answers are read at once, and hold up everything meanwhile.
_MOST = 8 << 20
#: What a partition gives in one claim, but for a first task that is larger: the script copies it, at some
#: 5 ms a MiB.
MOST_EACH = 512 << 10
#: Of those with large tasks so many are asked in one claim, for most of that.
_LARGE_AT_ONCE, _LARGE_SHARE = 3, 3 / 4


class Sizes:
    """Divides the free bytes among the partitions that a claim asks.

    Each is asked for an equal part. One that left a task which was larger is asked for a large part then,
    together with few others of the kind, and the first of these for its first task however large it is.
    """

    def __init__(self) -> None:
        self._large: set[int] = set()

    def ended(self, partition: int, *, left: bool) -> None:
        """A partition was asked; `left`: a task there was larger than its part."""
        if left:
            self._large.add(partition)
        else:
            self._large.discard(partition)

    def put_off(self, partitions: Sequence[int]) -> Sequence[int]:
        """Return the partitions that may be asked now, in their order."""
        if not self._large:
            return partitions
        later = [partition for partition in partitions if partition in self._large][_LARGE_AT_ONCE:]
        return [partition for partition in partitions if partition not in later]

    def parts(self, partitions: Sequence[int], free: int) -> tuple[dict[int, int], int]:
        """Return how many bytes to ask partitions for, and of which the first task may be larger."""
        room = max(0, min(_MOST, free))
        large = [partition for partition in partitions if partition in self._large]
        if not large:
            return dict.fromkeys(partitions, min(MOST_EACH, room // len(partitions))), partitions[0]
        small = [partition for partition in partitions if partition not in self._large]
        for_large = int(room * _LARGE_SHARE) if small else room
        parts = dict.fromkeys(large, min(MOST_EACH, for_large // len(large)))
        parts.update(dict.fromkeys(small, min(MOST_EACH, (room - for_large) // max(1, len(small)))))
        return parts, large[0]
