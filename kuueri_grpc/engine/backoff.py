"""How the engine's loops meet an outage of the store."""

import asyncio
import logging
import random

_log = logging.getLogger(__name__)

_FIRST_S = 0.05
_LONGEST_S = 2.0


class Backoff:
    """Waits between failures: doubling from 50 ms to 2 s, each shortened at random by up to a half.

    The randomness keeps a store that comes back from being met by every loop at once.
    """

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """Start from the shortest wait again."""
        self._failures = 0

    async def wait(self, doing: str, error: Exception) -> None:
        """Log the failure (once per outage at WARNING) and wait."""
        level = logging.DEBUG if self._failures else logging.WARNING
        _log.log(level, "%s failed, trying again until it works: %s", doing, error)
        longest = min(_LONGEST_S, _FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
