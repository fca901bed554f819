"""One timer for the earliest of many times."""

import asyncio
import math
from collections.abc import Callable


class Alarm:
    """Rings once, by the earliest time that it was set to since it rang.

    Args:
        ring: is called in the event loop. It may set the alarm again.
    """

    __slots__ = ("_at", "_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        # Kept here: a timer that is due at once is none to uvloop, and does not know its time.
        self._at = math.inf
        self._timer: asyncio.Handle | None = None

    def set(self, when: float) -> None:
        """Ring by `when`, a time of the event loop; infinity changes nothing."""
        if self._at <= when:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._over)

    def _over(self) -> None:
        self._timer, self._at = None, math.inf
        self._ring()
