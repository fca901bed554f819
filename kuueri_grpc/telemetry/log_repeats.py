"""Hold back log lines about what changes all the time: an outage that comes and goes many times a second."""

from collections.abc import Callable
from dataclasses import dataclass

#: How many lines of a kind are written as they come, and how often one is afterwards.
AT_ONCE = 3
AGAIN_S = 60.0


@dataclass(slots=True)
class _Kind:
    #: How many more may be written; grows with time up to `AT_ONCE`.
    left: float
    counted_at: float
    held: str | None = None
    held_at: int = 0
    count: int = 0


class Repeats:
    """Lets three lines of a kind pass, then one a minute: the last one that came, with how many others did.

    The last one, so that the log ends with how things are. Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._kinds: dict[object, _Kind] = {}
        self._numbers = 0

    def passed(self, key: object, line_of: Callable[[int], str], now: float) -> str | None:
        """Return the line if one of the kind `key` may be written now; it is kept if not.

        `line_of`: makes the line, of how many others it stands for.
        """
        kind = self._kinds.setdefault(key, _Kind(AT_ONCE, now))
        _refill(kind, now)
        if kind.held is None and kind.left >= 1:
            kind.left -= 1
            return line_of(0)
        self._numbers += 1
        kind.held, kind.held_at = line_of(kind.count), self._numbers
        kind.count += 1
        return None

    def take_due(self, now: float) -> list[str]:
        """Return the lines that were held back and are to be written now, in their order."""
        due = []
        for kind in self._kinds.values():
            _refill(kind, now)
            if kind.held is not None and kind.left >= 1:
                kind.left -= 1
                due.append(kind)
        return _take(due)

    def take_all(self) -> list[str]:
        """Return all lines that were held back."""
        return _take([kind for kind in self._kinds.values() if kind.held is not None])

    def next_due_s(self, now: float) -> float | None:
        """Return in how many seconds there will be something to write; None: nothing is held back."""
        waits = [
            (1 - kind.left) * AGAIN_S - (now - kind.counted_at)
            for kind in self._kinds.values()
            if kind.held is not None
        ]
        return max(0.0, min(waits)) if waits else None


def _refill(kind: _Kind, now: float) -> None:
    kind.left = min(float(AT_ONCE), kind.left + (now - kind.counted_at) / AGAIN_S)
    kind.counted_at = now


def _take(kinds: list[_Kind]) -> list[str]:
    lines = []
    for kind in sorted(kinds, key=lambda kind: kind.held_at):
        if kind.held is not None:
            lines.append(kind.held)
        kind.held, kind.count = None, 0
    return lines
