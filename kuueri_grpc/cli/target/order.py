"""Checks that the attempts of each task arrive as 1, 2, 3 ..., each once."""

from collections import Counter, defaultdict
from enum import StrEnum


class Order(StrEnum):
    """How an attempt came in relation to those before it."""

    NEXT = "next"
    """The one after the last."""
    DUPLICATE = "duplicate"
    """Came before: the worker was lost and the attempt sent again, or the answer did not arrive."""
    GAP = "gap"
    """Some before it have not come (yet): they may have failed on the way here."""
    LATE = "late"
    """One that a gap left out."""


class OrderCheck:
    """Keeps the attempts of every task that sends them."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, set[int]] = defaultdict(set)
        self._last: dict[str, int] = {}
        #: How many attempts came in each way.
        self.counts: Counter[Order] = Counter()

    @property
    def tasks(self) -> int:
        """How many tasks have sent an attempt."""
        return len(self._last)

    @property
    def missing(self) -> int:
        """How many attempts have not come though later ones have."""
        return sum(last - len(self._seen[task_id]) for task_id, last in self._last.items())

    def record(self, task_id: str, attempt: int) -> Order:
        """Take note of an attempt (1, 2, 3 ...) and say how it came."""
        seen, last = self._seen[task_id], self._last.get(task_id, 0)
        if attempt in seen:
            order = Order.DUPLICATE
        elif attempt < last:
            order = Order.LATE
        else:
            order = Order.NEXT if attempt == last + 1 else Order.GAP
        seen.add(attempt)
        self._last[task_id] = max(last, attempt)
        self.counts[order] += 1
        return order
