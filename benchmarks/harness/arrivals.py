"""What the target saw of a set of tasks. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.statistics import percentile


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that the target received, at `at_ms` (since the epoch, with a fraction)."""

    task_id: str
    attempt: int
    at_ms: float


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How tasks arrived, each of which was to arrive once.

    `late_ms` is, in ascending order, how long after its due time each task arrived first; below zero it
    was early. `duplicates` counts the arrivals after a task's first.
    """

    expected: int
    duplicates: int
    late_ms: tuple[float, ...]
    first_due_ms: int
    last_first_arrival_ms: float

    @property
    def arrived(self) -> int:
        """Tasks that arrived at least once."""
        return len(self.late_ms)

    @property
    def lost(self) -> int:
        """Tasks that never arrived."""
        return self.expected - self.arrived

    @property
    def early(self) -> int:
        """Tasks that arrived before they were due."""
        return sum(late_ms < 0 for late_ms in self.late_ms)

    @property
    def drain_s(self) -> float:
        """From the first due time until every task that arrived at all had arrived."""
        return (self.last_first_arrival_ms - self.first_due_ms) / 1_000

    def lateness(self, percent: float) -> float:
        """Return a percentile of the lateness, in ms. Raises `ValueError`: nothing arrived."""
        return percentile(self.late_ms, percent)


def deliveries(arrivals: Iterable[Arrival], due_ms: Mapping[str, int]) -> Deliveries:
    """Return how the tasks in `due_ms` (id -> due time) arrived; arrivals of others are left out."""
    first: dict[str, float] = {}
    count = 0
    for arrival in arrivals:
        if arrival.task_id not in due_ms:
            continue
        count += 1
        first[arrival.task_id] = min(arrival.at_ms, first.get(arrival.task_id, arrival.at_ms))
    return Deliveries(
        expected=len(due_ms),
        duplicates=count - len(first),
        late_ms=tuple(sorted(at_ms - due_ms[task_id] for task_id, at_ms in first.items())),
        first_due_ms=min(due_ms.values()),
        last_first_arrival_ms=max(first.values(), default=0.0),
    )
