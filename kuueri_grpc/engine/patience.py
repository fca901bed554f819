"""Waits of one length, by many: one timer for all of them."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Waiting = TypeVar("Waiting", bound=Hashable)


class Patience(Generic[Waiting]):
    """Tells of those who have waited for a set time. A timer of its own weighs more than who waits.

    Args:
        length_s: the time, asked anew for each who begins to wait.
        over: what is done with one whose time is over.
    """

    def __init__(self, length_s: Callable[[], float], over: Callable[[Waiting], None]) -> None:
        self._length_s = length_s
        self._over = over
        # When the time of each is over. All wait equally long: who began first is the first.
        self._ends: dict[Waiting, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, waiting: Waiting) -> None:
        """Begin a wait; it lasts until `end`, or until its time is over."""
        loop = asyncio.get_running_loop()
        end = self._ends[waiting] = loop.time() + self._length_s()
        # As a rule there is a timer for one who began earlier: it looks at the next then.
        if self._timer is None or self._timer.when() > end:
            self._look_at(end)

    def end(self, waiting: Waiting) -> None:
        """End a wait, if it has not ended."""
        self._ends.pop(waiting, None)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._ends:
            waiting, end = next(iter(self._ends.items()))
            if end > now:
                self._look_at(end)
                break
            del self._ends[waiting]
            self._over(waiting)
