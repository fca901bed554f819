"""How late this process was with anything: clients and target share it."""

import asyncio

_BEAT_S = 0.02


class Pulse:
    """Measures the longest time in which the event loop did nothing that it was asked to."""

    def __init__(self) -> None:
        self.longest_ms = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(_BEAT_S)
            self.longest_ms = max(self.longest_ms, round((loop.time() - asked - _BEAT_S) * 1_000))
