"""One reading of a stream of events for all who follow it in this process."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from kuueri_grpc.domain.errors import CursorTooOld, KuueriError
from kuueri_grpc.engine.patience import Patience


class Marked(Protocol):
    """An event in a stream."""

    @property
    def mark(self) -> int:
        """See `TimelineEvent.mark`."""
        ...


Item = TypeVar("Item", bound=Marked)
#: Returns the events after a number, oldest first, some or all of them, and the number of the latest.
Read = Callable[[int], Awaitable[tuple[Sequence[Item], int]]]


async def read_after(read: Read[Item], position: int, mark: int) -> tuple[Sequence[Item], int]:
    """Read on behind the event at `position`, if it is the one with this mark (0: whichever it is).

    Raises:
        CursorTooOld: it is not: the store came back with older data and went on from there, so that what
            follows `position` now is not all that followed the event.
    """
    if not (position and mark):
        return await read(position)
    events, latest = await read(position - 1)
    if not events or events[0].mark != mark:
        raise CursorTooOld(
            f"event {position} is not the one that was told under this number: the task was purged and "
            "subscribed anew, or the store has lost its latest writes (a fail-over, an older backup); "
            "watch again without a token"
        )
    return events[1:], latest


#: Someone who waits for news: True when there is some, False after a time of silence.
Waiter = asyncio.Future[bool]
#: How long nothing may happen before those who wait are told so.
Silence = Patience[Waiter]


def silence(length_s: float) -> Silence:
    """Return a silence of that length, for all who wait."""
    return Patience(lambda: length_s, _tell_of_silence)


def _tell_of_silence(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(False)


class FellBehind(Exception):
    """What a follower needs next is not kept for all any more."""


class Tail(Generic[Item]):
    """The latest events of a timeline or a feed, kept for followers at different places.

    Events are numbered without gaps. Whoever is told first that there is news reads it, for all; each
    follower has no more than its own position, and one that falls behind what is kept reads for itself
    instead of making this grow.

    There is one for each task that is watched: it holds nothing before there is something to hold.

    Args:
        read: how to read on.
        capacity: how many events are kept.
    """

    __slots__ = (
        "_capacity",
        "_closed",
        "_doubted",
        "_kept",
        "_last",
        "_mark",
        "_news",
        "_read",
        "_reading",
        "_waiters",
    )

    def __init__(self, read: Read[Item], capacity: int) -> None:
        self._read = read
        self._capacity = capacity
        self._mark = 0
        self._doubted = False
        self._kept: list[Item] = []
        self._last: int | None = None
        self._closed: Callable[[], KuueriError] | None = None
        self._news = False
        self._reading = False
        self._waiters: list[Waiter] = []

    def changed(self) -> None:
        """There may be events that were not read yet."""
        self._news = True
        # News that is being read now is told by its reader.
        if not self._reading:
            self._wake()

    def doubt(self) -> None:
        """The store was away: there may be events, and those that were read may be there no more."""
        self._doubted = True
        self.changed()

    def close(self, error: Callable[[], KuueriError]) -> None:
        """Let every follower end with an `error` of its own, those that wait and those that come."""
        self._closed = error
        self._wake()

    def reaches(self, position: int, mark: int = 0) -> bool:
        """Return whether a follower at `position`, of an event with this mark, can go on from here.

        The first one to ask decides where the tail begins.
        """
        if self._last is None:
            self._last, self._mark = position, mark
        return position >= self._last - len(self._kept)

    async def after(self, position: int, silence: Silence | None = None) -> Sequence[Item]:
        """Return the events after `position`, at least one; wait for it if need be.

        None after a time of `silence`; without it, the wait has no end.

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
                return self._kept[-behind:]
            if self._news and not self._reading:
                await self._read_on()
                continue
            waiter: Waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            if silence is not None:
                silence.begin(waiter)
            told = False
            try:
                told = await waiter
            finally:
                self._leave(waiter, silence, told=told)
            if not told:
                return ()

    def _leave(self, waiter: Waiter, silence: Silence | None, *, told: bool) -> None:
        if silence is not None:
            silence.end(waiter)
        if not told:
            with contextlib.suppress(ValueError):  # it was told at the same time
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(True)

    @property
    def _end(self) -> int:
        return self._last or 0

    async def _read_on(self) -> None:
        # First, so that news that arrives during the reading is read next.
        self._news, self._reading = False, True
        doubted, self._doubted = self._doubted, False
        try:
            events, latest = await read_after(self._read, self._end, self._mark if doubted else 0)
        except BaseException:
            self._news = True
            self._doubted = self._doubted or doubted
            raise
        else:
            if events:
                self._kept += events
                del self._kept[: -self._capacity]
                self._mark = events[-1].mark
            self._last = self._end + len(events)
            self._news = self._news or self._end < latest
        finally:
            self._reading = False
            self._wake()
