"""Whether a worker that runs also lives: its event loop goes round, and so it is heard."""

import asyncio

from kuueri_grpc.process.handover import BEAT_S


class Pulse:
    """How long a worker has been silent, by the supervisor's own progress.

    While the supervisor stands still as well (a machine that sleeps, a container that is frozen) no time
    passes, so nobody is blamed for that.

    Args:
        limit_s: how long it may be silent; 0: for ever.
    """

    def __init__(self, limit_s: float) -> None:
        # Moments and beats are not in step, and a beat may be late.
        self._limit_s = max(limit_s, 4 * BEAT_S) if limit_s else 0.0
        self._heard = asyncio.Event()
        self._silent_s = 0.0

    def beat(self) -> None:
        """It was heard."""
        self._silent_s = 0.0
        self._heard.set()

    async def fails(self) -> float:
        """Return for how long (s) a worker that was heard once has been silent, when that is too long."""
        await self._heard.wait()
        while not self._limit_s or self._silent_s < self._limit_s:
            await self._moment()
            self._silent_s += BEAT_S
        return self._silent_s

    async def _moment(self) -> None:
        await asyncio.sleep(BEAT_S)
