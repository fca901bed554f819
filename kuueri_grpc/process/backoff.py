"""How long to wait before a process that ended is started again."""


class RestartBackoff:
    """Waits that double from 100 ms to 5 s, and begin anew after a life of 30 s."""

    _FIRST_MS = 100
    _LONGEST_MS = 5_000
    _HEALTHY_MS = 30_000

    def __init__(self) -> None:
        self._next_ms = self._FIRST_MS

    def after(self, lived_ms: int) -> int:
        """Return how long (ms) to wait after a life of `lived_ms`, 0 for one that did not begin."""
        if lived_ms >= self._HEALTHY_MS:
            self._next_ms = self._FIRST_MS
        wait_ms = self._next_ms
        self._next_ms = min(self._LONGEST_MS, 2 * wait_ms)
        return wait_ms
