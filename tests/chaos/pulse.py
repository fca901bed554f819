"""How late this process was with anything: clients and target share it."""

import asyncio
from bisect import bisect_left, bisect_right

from tests.acceptance.targets import now_ms

_BEAT_S = 0.02
#: Shorter ones are nothing out of the ordinary.
_STALL_MS = 20
#: What came during a stall is noted within this time after it.
_NEAR_MS = 1_000


class Pulse:
    """Notes when the event loop did nothing that it was asked to, and for how long. Times are in ms."""

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._lengths: list[int] = []

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(_BEAT_S)
            self.note(now_ms(), round((loop.time() - asked - _BEAT_S) * 1_000))

    def note(self, ended_ms: int, length_ms: int) -> None:
        """Note a stall, if it is one; `ended_ms` since 1970."""
        if length_ms > _STALL_MS:
            self._ends.append(ended_ms)
            self._lengths.append(length_ms)

    @property
    def longest_ms(self) -> int:
        return max(self._lengths, default=0)

    def before(self, at_ms: int) -> int:
        """Return by how much something that was noted at an instant (since 1970) may have come earlier."""
        first, end = bisect_left(self._ends, at_ms - _NEAR_MS), bisect_right(self._ends, at_ms + _NEAR_MS)
        return sum(self._lengths[first:end])
