"""The streams that are open in this process, each of which can be ended from elsewhere."""

import asyncio
from collections.abc import Awaitable, Iterator
from types import TracebackType
from typing import Self

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import ConnectionAged, KuueriError, Unauthenticated
from kuueri_grpc.engine.alarm import Alarm

_NEVER = float("inf")


class Stream:
    """A stream of a caller: it is open while its block (`with stream:`) runs, in one task.

    The block ends with the error that `end` was given, also when that comes from another task.
    """

    __slots__ = ("_ages_at", "_broken_off", "_expires_at", "_streams", "_task", "_whole", "_why", "access")

    def __init__(self, streams: "Streams", access: Access, ages_at: float) -> None:
        self.access = access
        self._streams = streams
        self._ages_at = ages_at
        self._expires_at = _NEVER
        self._task: asyncio.Task[object] | None = None
        self._why: KuueriError | None = None
        self._whole = False
        self._broken_off = False

    def __enter__(self) -> Self:
        """Open it."""
        self._task = asyncio.current_task()
        self._streams._add(self)  # noqa: SLF001  they are one
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        task, self._task = self._task, None
        self._streams._discard(self)  # noqa: SLF001
        if task is None or self._why is None or not self._broken_off:
            return
        # Where the caller has gone at the same time, the call is cancelled, as it is without an `end`.
        if not task.uncancel() and kind is asyncio.CancelledError:
            raise self._why from None

    @property
    def open(self) -> bool:
        """Whether its block runs."""
        return self._task is not None

    @property
    def ends_at(self) -> float:
        """When it ends by itself, by the clock of the event loop."""
        return min(self._ages_at, self._expires_at)

    def expire_in(self, wait_s: float) -> None:
        """End it after a time, which replaces an earlier one: its token is not valid any more then."""
        self._expires_at = asyncio.get_running_loop().time() + max(0.0, wait_s)
        self._streams._alarm.set(self._expires_at)  # noqa: SLF001

    def end(self, why: KuueriError) -> None:
        """End it now, or behind what it does as a `whole`."""
        if self._task is not None and self._why is None:
            self._why = why
            if not self._whole:
                self._broken_off = self._task.cancel()

    async def whole(self, step: Awaitable[None]) -> None:
        """Await a step, from inside its block, that is not to be broken off half-way by an `end`.

        Raises what `end` was given meanwhile. Where the caller goes, the step is broken off nevertheless.
        """
        self._whole = True
        try:
            await step
        finally:
            self._whole = False
        if self._why is not None:
            raise self._why

    def end_if_due(self, now: float) -> None:
        """End it if it is time."""
        if self._expires_at <= now:
            self.end(
                Unauthenticated(
                    "the token that opened this stream is not valid any more: it was rotated or revoked, "
                    "has run out, or its project was deleted"
                )
            )
        elif self._ages_at <= now:
            self.end(ConnectionAged())


class Streams:
    """The open streams. One timer is for the ends of all: a timer each would weigh more than the stream."""

    def __init__(self) -> None:
        self._of: dict[str, set[Stream]] = {}
        self._alarm = Alarm(self._look)

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._of.values()))

    def __iter__(self) -> Iterator[Stream]:
        """Go through all, as they are now."""
        return iter([stream for streams in self._of.values() for stream in streams])

    def of(self, project_id: str) -> list[Stream]:
        """Return those of a project."""
        return list(self._of.get(project_id, ()))

    def count(self, project_id: str) -> int:
        """Return how many a project has."""
        return len(self._of.get(project_id, ()))

    def stream(self, access: Access, lasts_s: float | None = None) -> Stream:
        """Return a stream that is not open yet; it ends with `ConnectionAged` after a time."""
        ages_at = _NEVER if lasts_s is None else asyncio.get_running_loop().time() + lasts_s
        return Stream(self, access, ages_at)

    def _add(self, stream: Stream) -> None:
        self._of.setdefault(stream.access.project_id, set()).add(stream)
        self._alarm.set(stream.ends_at)

    def _discard(self, stream: Stream) -> None:
        streams = self._of[stream.access.project_id]
        streams.discard(stream)
        if not streams:
            del self._of[stream.access.project_id]

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for stream in self:
            stream.end_if_due(now)
        self._alarm.set(min((s.ends_at for s in self if s.ends_at > now), default=_NEVER))
