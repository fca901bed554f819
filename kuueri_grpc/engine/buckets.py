"""Token buckets, one per key, in the memory of the process."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Buckets that are kept. One that is full again need not be; beyond this the one least used goes.
MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a window: as many at once, and the same again spread over each window after that."""

    limit: int
    window_s: float


class Buckets:
    """A bucket of `rate.limit` tokens for every key, full at first, that fills up in a window.

    Each is one number, the instant at which it will be full (the generic cell rate algorithm), so nothing
    runs to fill them. A key costs some 200 bytes, and `most` of them are kept.
    """

    def __init__(
        self, rate: Rate, most: int = MOST_BUCKETS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self._window_s = rate.window_s
        self._token_s = rate.window_s / rate.limit
        self._most = most
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, key: str) -> float:
        """Return the seconds until there is a token, 0 if there is one."""
        full_at = self._full_at.get(key)
        return 0.0 if full_at is None else max(0.0, full_at + self._token_s - self._window_s - self._clock())

    def take(self, key: str) -> float:
        """Take a token if there is one; return the seconds until there is, 0 if it was taken."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._token_s
        wait_s = full_at - now - self._window_s
        # Rounding must not cost the last token.
        if wait_s > 1e-9:
            return wait_s
        self._keep(key, full_at)
        return 0.0

    def take_more(self, key: str, tokens: int, taken: int = 1) -> float:
        """Take more tokens for what has `taken` some already, all of them or none.

        If they are more than a bucket holds, they are taken from a full one, which fills up from so far below
        then. Returns the seconds until they can be taken by what takes `taken` anew then, 0 if they were.
        """
        now = self._clock()
        used_s = max(0.0, self._full_at.get(key, now) - now)
        if tokens + taken > self.rate.limit:
            wait_s = used_s - taken * self._token_s
        else:
            wait_s = used_s + tokens * self._token_s - self._window_s
        if wait_s > 1e-9:
            return wait_s + taken * self._token_s
        self._keep(key, now + used_s + tokens * self._token_s)
        return 0.0

    def charge(self, key: str, tokens: float) -> None:
        """Take tokens whether they are there or not."""
        now = self._clock()
        self._keep(key, max(self._full_at.get(key, now), now) + tokens * self._token_s)

    def _keep(self, key: str, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
