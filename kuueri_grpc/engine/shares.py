"""How much of a process one project may have: the last free slots are for those that have few."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kuueri_grpc.engine.lanes import Lanes

#: A project may have so many times what is free (a dynamic threshold, as switches share their buffers:
#: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). One that is alone gets 4/5 of all,
#: each of n 4/(1+4n), and something is left free.
_FACTOR = 4
#: How many attempts may wait for a turn at their targets, in slots.
_MOST_WAITING = 3


@dataclass(frozen=True, slots=True)
class Free:
    """What is free in a process: slots to send in, places to wait in, bytes of requests."""

    slots: int
    places: int
    size: int

    @property
    def attempts(self) -> int:
        """How many attempts may start."""
        return min(self.slots, self.places) if self.size > 0 else 0


def portion(free: int) -> int:
    """Return how many of the free slots, or bytes, one claim may take."""
    return max(1, _FACTOR * free // (1 + _FACTOR))


class Shares:
    """What the attempts of each project take of a process, and how much more they may.

    Args:
        slots: attempts that may be sent at once.
        size: bytes of requests that may be in memory at once.
        lanes: which of the attempts wait. They take no slot, or a slow target would take all.
    """

    def __init__(self, slots: int, size: int, lanes: Lanes) -> None:
        self._slots = slots
        self._size = size
        #: With fewer slots than that none is kept free: each would be too large a part of all.
        self._rounded_up = _FACTOR if slots <= _FACTOR else 0
        self._lanes = lanes
        self._attempts: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()
        self._in_flight = 0
        self._used = 0
        self._tell: Callable[[], object] = lambda: None

    @property
    def free(self) -> Free:
        """What is free now."""
        waiting = self._lanes.waiting
        return Free(
            self._slots - (self._in_flight - waiting),
            _MOST_WAITING * self._slots - waiting,
            self._size - self._used,
        )

    def on_change(self, tell: Callable[[], object]) -> None:
        """Call `tell` whenever a project may have more than before."""
        self._tell = tell

    def changed(self) -> None:
        """An attempt takes less than before."""
        self._tell()

    def start(self, project_id: str, size: int) -> None:
        """An attempt starts. `size`: bytes of its request."""
        self._in_flight += 1
        self._used += size
        self._attempts[project_id] += 1
        self._sizes[project_id] += size

    def end(self, project_id: str, size: int) -> None:
        """An attempt has ended."""
        self._in_flight -= 1
        self._used -= size
        self._attempts[project_id] -= 1
        self._sizes[project_id] -= size
        if not self._attempts[project_id]:
            del self._attempts[project_id], self._sizes[project_id]
        self._tell()

    def of(self, project_id: str) -> int:
        """Return how many more attempts of a project may start; one that has none may always start one."""
        return self._of(project_id, self.free)

    def of_any_other(self) -> int:
        """Return how many attempts may start of a project that has none."""
        return self._of("", self.free)

    def below(self, limit: int) -> Mapping[str, int]:
        """Return how many more attempts may start of those projects that have less left than `limit`."""
        free = self.free
        # What one project would have to have for that, to be quick where none can have it.
        least = min(_FACTOR * free.slots, _FACTOR * free.places) - (1 + _FACTOR) * limit
        if self._in_flight < least and self._used < _FACTOR * free.size:
            return {}
        lefts = ((project_id, self._of(project_id, free)) for project_id in self._attempts)
        return {project_id: left for project_id, left in lefts if left < limit}

    def _of(self, project_id: str, free: Free) -> int:
        attempts = self._attempts.get(project_id, 0)
        waiting = self._lanes.waiting_of(project_id)
        # Each that starts leaves less free.
        left = min(
            (_FACTOR * free.slots - (attempts - waiting) + self._rounded_up) // (1 + _FACTOR),
            (_FACTOR * free.places - waiting) // (1 + _FACTOR),
        )
        if self._sizes.get(project_id, 0) >= _FACTOR * free.size:
            left = 0
        return max(left, 0 if attempts else 1)
