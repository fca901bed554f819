"""Attempts that wait for their turn at a target, by lane: which lanes need no more of them for now."""

from collections import Counter
from collections.abc import Callable, Collection


class Lanes:
    """Counts who waits. A lane (see `ports.Claim`) whose target is slower than its tasks fills up.

    Args:
        full: a lane is full when more than this many wait, and has room again with half of them: enough for
            a quick target to be busy until the next claim.
    """

    def __init__(self, full: int) -> None:
        self._full_at = full
        self.waiting = 0
        self.freed = 0
        self._by_lane: Counter[int] = Counter()
        self._full: set[int] = set()
        self._tell: Callable[[], object] = lambda: None

    @property
    def full(self) -> Collection[int]:
        """Lanes from which nothing more should be taken now."""
        return frozenset(self._full)

    def on_room(self, tell: Callable[[], object]) -> None:
        """Call `tell` whenever a lane has room again; `freed` counts how often that was."""
        self._tell = tell

    def enter(self, lane: int | None) -> None:
        """An attempt begins to wait. Of one in no lane it is only known that it does."""
        self.waiting += 1
        if lane is None:
            return
        self._by_lane[lane] += 1
        if self._by_lane[lane] > self._full_at:
            self._full.add(lane)

    def leave(self, lane: int | None) -> None:
        """An attempt has its turn, or does not wait for it any more."""
        self.waiting -= 1
        if lane is None:
            return
        self._by_lane[lane] -= 1
        left = self._by_lane[lane]
        if not left:
            del self._by_lane[lane]
        if left <= self._full_at // 2 and lane in self._full:
            self._full.discard(lane)
            self.freed += 1
            self._tell()
