"""The streams that are open in this process, each of which can be ended from elsewhere."""

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import ConnectionAged, KuueriError, Unauthenticated

_NEVER = float("inf")


class Stream:
    """A stream of a caller: it is open while its block (`with stream:`) runs, in one task.

    The block ends with the error that `end` was given, also when that comes from another task.
    """

    __slots__ = ("_ages_at", "_expires_at", "_streams", "_task", "_why", "access")

    def __init__(self, streams: "Streams", access: Access, ages_at: float) -> None:
        self.access = access
        self._streams = streams
        self._ages_at = ages_at
        self._expires_at = _NEVER
        self._task: asyncio.Task[object] | None = None
        self._why: KuueriError | None = None

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
        if self._why is None or task is None:
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
        self._streams._look_by(self._expires_at)  # noqa: SLF001

    def end(self, why: KuueriError) -> None:
        """End it now."""
        if self._task is not None and self._why is None:
            self._why = why
            self._task.cancel()

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
        self._timer: asyncio.TimerHandle | None = None

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
        self._look_by(stream.ends_at)

    def _discard(self, stream: Stream) -> None:
        streams = self._of[stream.access.project_id]
        streams.discard(stream)
        if not streams:
            del self._of[stream.access.project_id]

    def _look_by(self, when: float) -> None:
        """See to it that what ends at `when` is looked at then."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
            self._timer = None
        if when != _NEVER:
            self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for stream in self:
            stream.end_if_due(now)
        self._look_by(min((s.ends_at for s in self if s.ends_at > now), default=_NEVER))
