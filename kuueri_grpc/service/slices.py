"""Long work in the event loop, in slices between which other calls go on."""

import asyncio
import time

#: How long one slice lasts before others have a turn.
_SLICE_S = 0.005


class Slices:
    """Counts the time of the present slice; make one where long work begins."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = time.monotonic() + _SLICE_S

    async def pause(self) -> None:
        """Let others have a turn if the slice is over."""
        if time.monotonic() > self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + _SLICE_S
