"""What is followed in this process: a tail for each subject, and a subscription while anyone follows it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.engine.tail import Tail
from kuueri_grpc.ports import Changed, SignalBus


class _Topic:
    __slots__ = ("followers", "tail")

    def __init__(self, tail: Tail[Any]) -> None:
        self.tail = tail
        self.followers = 0


class Topics:
    """The subjects that are followed; a `Changed` without a task id is a whole project."""

    def __init__(self, bus: SignalBus) -> None:
        self._bus = bus
        self._topics: dict[Changed, _Topic] = {}
        self._closed: Callable[[], KuueriError] | None = None

    @property
    def followers(self) -> int:
        """How many follow anything."""
        return sum(topic.followers for topic in self._topics.values())

    def changed(self, subject: Changed) -> None:
        """There is news of a subject."""
        if topic := self._topics.get(subject):
            topic.tail.changed()

    def all_changed(self) -> None:
        """There may be news of every subject: signals may have been missed."""
        for topic in self._topics.values():
            topic.tail.changed()

    def close(self, error: Callable[[], KuueriError]) -> None:
        """Let every follower end with an `error` of its own, those that are there and those that come."""
        self._closed = error
        for topic in self._topics.values():
            topic.tail.close(error)

    @asynccontextmanager
    async def following(
        self,
        subject: Changed,
        read: Callable[[int], Awaitable[tuple[Sequence[Any], int]]],
        capacity: int,
    ) -> AsyncIterator[Tail[Any]]:
        """Give the subject's tail, with its signals in force: what is read from now on misses nothing."""
        if self._closed is not None:
            raise self._closed()
        topic = self._topics.get(subject)
        if topic is None:
            topic = self._topics[subject] = _Topic(Tail(read, capacity))
        topic.followers += 1
        try:
            await self._bus.follow(subject.project_id, subject.task_id)
            try:
                yield topic.tail
            finally:
                await self._bus.unfollow(subject.project_id, subject.task_id)
        finally:
            topic.followers -= 1
            if not topic.followers and self._topics.get(subject) is topic:
                del self._topics[subject]
