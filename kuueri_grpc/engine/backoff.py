"""How the engine's loops meet an outage of the store, or a lack of their own process."""

import asyncio
import logging
import random

from kuueri_grpc.domain.errors import StoreUnavailable

_log = logging.getLogger(__name__)

#: What a loop outlives: an outage of the store, or a lack of this process (file descriptors, memory) in
#: whatever the loop calls. Either may pass; neither is a reason to end.
TRANSIENT = (StoreUnavailable, OSError)

_FIRST_S = 0.05
_LONGEST_MS = 2_000


class Backoff:
    """Waits between failures: doubling from 50 ms to `longest_ms`, each shortened at random by up to a half.

    The randomness keeps a store that comes back from being met by every loop at once.
    """

    def __init__(self, longest_ms: int = _LONGEST_MS) -> None:
        self._longest_s = longest_ms / 1_000
        self._failures = 0

    def reset(self) -> None:
        """Start from the shortest wait again."""
        self._failures = 0

    async def wait(self, doing: str, error: Exception) -> None:
        """Log the failure (once per outage at WARNING) and wait."""
        level = logging.DEBUG if self._failures else logging.WARNING
        _log.log(
            level,
            "%s failed, trying again until it works: %s",
            doing,
            error,
            extra={"event": "loop_retries", "doing": doing},
        )
        await self.pause()

    async def pause(self) -> None:
        """Wait, without a word: the failure was logged otherwise."""
        longest = min(self._longest_s, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
