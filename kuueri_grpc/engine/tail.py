"""One reading of a stream of events for all who follow it in this process."""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from kuueri_grpc.domain.errors import KuueriError

Item = TypeVar("Item")


class FellBehind(Exception):
    """What a follower needs next is not kept for all any more."""


class Tail(Generic[Item]):
    """The latest events of a timeline or a feed, kept for followers at different places.

    Events are numbered without gaps. Whoever is told first that there is news reads it, for all; each
    follower has no more than its own position, and one that falls behind what is kept reads for itself
    instead of making this grow.

    Args:
        read: returns the events after a number, oldest first, some or all of them, and the number of
            the latest that there is.
        capacity: how many events are kept.
    """

    def __init__(self, read: Callable[[int], Awaitable[tuple[Sequence[Item], int]]], capacity: int) -> None:
        self._read = read
        self._kept: deque[Item] = deque(maxlen=capacity)
        self._last: int | None = None
        self._closed: Callable[[], KuueriError] | None = None
        self._news = asyncio.Event()
        self._reading = asyncio.Lock()

    def changed(self) -> None:
        """There may be events that were not read yet."""
        self._news.set()

    def close(self, error: Callable[[], KuueriError]) -> None:
        """Let every follower end with an `error` of its own, those that wait and those that come."""
        self._closed = error
        self._news.set()

    def reaches(self, position: int) -> bool:
        """Return whether a follower at `position` can go on from here.

        The first one to ask decides where the tail begins.
        """
        if self._last is None:
            self._last = position
        return position >= self._last - len(self._kept)

    async def after(self, position: int) -> Sequence[Item]:
        """Return the events after `position`, at least one; wait for it if need be.

        Raises:
            FellBehind: they are not kept any more.
            KuueriError: what `read` raised, or what this was closed with.
        """
        while True:
            if self._closed is not None:
                raise self._closed()
            if not self.reaches(position):
                raise FellBehind
            behind = self._end - position
            if behind > 0:
                return list(itertools.islice(self._kept, len(self._kept) - behind, None))
            await self._news.wait()
            async with self._reading:
                if self._end <= position and self._news.is_set() and self._closed is None:
                    await self._read_on()

    @property
    def _end(self) -> int:
        return self._last or 0

    async def _read_on(self) -> None:
        # First, so that news that arrives during the reading is read next.
        self._news.clear()
        try:
            events, latest = await self._read(self._end)
        except BaseException:
            self._news.set()
            raise
        self._kept.extend(events)
        self._last = self._end + len(events)
        if self._end < latest:
            self._news.set()
