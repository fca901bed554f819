"""Waits of one length, by many: one timer for all of them."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from kuueri_grpc.engine.alarm import Alarm

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
        self._alarm = Alarm(self._look)

    def begin(self, waiting: Waiting) -> None:
        """Begin a wait; it lasts until `end`, or until its time is over."""
        end = self._ends[waiting] = asyncio.get_running_loop().time() + self._length_s()
        self._alarm.set(end)

    def end(self, waiting: Waiting) -> None:
        """End a wait, if it has not ended."""
        self._ends.pop(waiting, None)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._ends:
            waiting, end = next(iter(self._ends.items()))
            if end > now:
                self._alarm.set(end)
                break
            del self._ends[waiting]
            self._over(waiting)
