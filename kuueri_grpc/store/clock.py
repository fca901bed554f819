"""The `Clock` port: the store's time, without asking for it."""

import time

#: A reading that is off by more than this is not a slow answer: the store's clock was set.
_STEP_MS = 1_000
#: How much of a smaller difference is believed at once.
_DECAY = 0.02


class StoreClock:
    """The store's clock, carried forward by this host's monotonic clock.

    Claims and peeks bring the store's time along, read at some moment before the answer arrived. So a
    reading makes this clock late by the answer's way back, never early: the latest reading wins over
    slower ones, and those only let it drift back slowly.
    """

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether the store's time was ever read: only then does `now_ms` tell it."""
        return self._offset_ms is not None

    def now_ms(self) -> int:
        """See `ports.Clock`. Before the first reading it is this host's own clock."""
        if self._offset_ms is None:
            return time.time_ns() // 1_000_000
        return int(time.monotonic() * 1_000 + self._offset_ms)

    def observe(self, store_ms: int) -> None:
        """Take a reading of the store's time (ms, rounded down) whose answer has just arrived."""
        reading = store_ms - time.monotonic() * 1_000
        if self._offset_ms is None or abs(reading - self._offset_ms) > _STEP_MS or reading > self._offset_ms:
            self._offset_ms = reading
        else:
            self._offset_ms += (reading - self._offset_ms) * _DECAY
