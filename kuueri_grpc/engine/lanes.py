"""Attempts that wait for their turn at a target, by lane: which lanes need no more of them for now."""

from collections import Counter
from collections.abc import Callable, Collection

from kuueri_grpc.ports import ProjectLane


class _Lane:
    """Who waits in one lane. `full`: it is so for every project that has an attempt in it."""

    __slots__ = ("by_project", "full", "waiting")

    def __init__(self) -> None:
        self.by_project: Counter[str] = Counter()
        self.waiting = 0
        self.full = False


class Lanes:
    """Counts who waits. A lane (see `ports.Claim`) whose target is slower than its tasks fills up.

    It is full for the projects whose attempts wait in it, each on its own: a project that has none there may
    always send one.

    Args:
        full: a lane is full when more than this many wait, and has room again with half of them: enough for
            a quick target to be busy until the next claim.
    """

    def __init__(self, full: int) -> None:
        self._full_at = full
        self.waiting = 0
        self.freed = 0
        self._by_project: Counter[str] = Counter()
        self._lanes: dict[int, _Lane] = {}
        self._full: dict[int, _Lane] = {}
        self._tell: Callable[[], object] = lambda: None

    @property
    def full(self) -> Collection[ProjectLane]:
        """Lanes from which nothing more should be taken now."""
        return [(project_id, number) for number, lane in self._full.items() for project_id in lane.by_project]

    def waiting_of(self, project_id: str) -> int:
        """Return how many attempts of a project wait, in all lanes and in none."""
        return self._by_project[project_id]

    def on_room(self, tell: Callable[[], object]) -> None:
        """Call `tell` whenever a lane has room again; `freed` counts how often that was."""
        self._tell = tell

    def enter(self, project_id: str, lane: int | None) -> None:
        """An attempt begins to wait. Of one in no lane it is only known that it does."""
        self.waiting += 1
        self._by_project[project_id] += 1
        if lane is None:
            return
        entered = self._lanes.get(lane)
        if entered is None:
            entered = self._lanes[lane] = _Lane()
        entered.waiting += 1
        entered.by_project[project_id] += 1
        if entered.waiting > self._full_at and not entered.full:
            entered.full = True
            self._full[lane] = entered

    def leave(self, project_id: str, lane: int | None) -> None:
        """An attempt has its turn, or does not wait for it any more."""
        self.waiting -= 1
        _take_one(self._by_project, project_id)
        if lane is None:
            return
        left = self._lanes[lane]
        left.waiting -= 1
        is_last = _take_one(left.by_project, project_id)
        if not left.waiting:
            del self._lanes[lane]
        if not left.full:
            return
        if left.waiting <= self._full_at // 2:
            left.full = False
            del self._full[lane]
        elif not is_last:
            return
        self.freed += 1
        self._tell()


def _take_one(counter: Counter[str], name: str) -> bool:
    """Count one less; return whether it was the last."""
    counter[name] -= 1
    if counter[name]:
        return False
    del counter[name]
    return True
