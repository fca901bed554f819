"""What is followed in this process: a tail for each subject, and a subscription while anyone follows it."""

from collections.abc import Callable, Hashable
from typing import Any

from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.engine.tail import Read, Tail
from kuueri_grpc.ports import Changed, SignalBus


class Topic:
    """What is followed under one name: as a rule one stream of events, so one tail.

    A task's id can be purged and subscribed anew while somebody still follows the former task: each of
    the two has a tail of its own.
    """

    __slots__ = ("_closed", "_tails", "followers")

    def __init__(self) -> None:
        self.followers = 0
        # One as a rule, of a task of which there are many: a list is smaller than a dict.
        self._tails: list[tuple[Hashable, Tail[Any]]] = []
        self._closed: Callable[[], KuueriError] | None = None

    def tail(
        self,
        identity: Hashable,
        read: Read[Any],
        capacity: int,
    ) -> Tail[Any]:
        """Return the tail of a stream of events, made by the first one who asks for it."""
        for known, tail in self._tails:
            if known == identity:
                return tail
        tail = Tail(read, capacity)
        self._tails.append((identity, tail))
        tail.changed()  # what was signalled before it was there
        if self._closed is not None:
            tail.close(self._closed)
        return tail

    def changed(self) -> None:
        """There may be news."""
        for _, tail in self._tails:
            tail.changed()

    def doubt(self) -> None:
        """See `Tail.doubt`."""
        for _, tail in self._tails:
            tail.doubt()

    def close(self, error: Callable[[], KuueriError]) -> None:
        """Let every follower end with an `error` of its own."""
        self._closed = error
        for _, tail in self._tails:
            tail.close(error)


class Topics:
    """The subjects that are followed; a `Changed` without a task id is a whole project."""

    def __init__(self, bus: SignalBus) -> None:
        self._bus = bus
        self._topics: dict[Changed, Topic] = {}
        self._closed: Callable[[], KuueriError] | None = None

    @property
    def followers(self) -> int:
        """How many follow anything."""
        return sum(topic.followers for topic in self._topics.values())

    def changed(self, subject: Changed) -> None:
        """There is news of a subject."""
        if topic := self._topics.get(subject):
            topic.changed()

    def doubt_all(self) -> None:
        """The store was away: signals may have been missed, and what was read may be there no more."""
        for topic in self._topics.values():
            topic.doubt()

    def close(self, error: Callable[[], KuueriError]) -> None:
        """Let every follower end with an `error` of its own, those that are there and those that come."""
        self._closed = error
        for topic in self._topics.values():
            topic.close(error)

    def following(self, subject: Changed) -> "_Following":
        """Give (`async with`) the subject's topic, with its signals in force: what is read misses nothing."""
        return _Following(self, subject)

    async def join(self, subject: Changed) -> Topic:
        """See `following`."""
        if self._closed is not None:
            raise self._closed()
        topic = self._topics.get(subject)
        if topic is None:
            topic = self._topics[subject] = Topic()
        topic.followers += 1
        try:
            await self._bus.follow(subject.project_id, subject.task_id)
        except BaseException:
            self._left(subject, topic)
            raise
        return topic

    def leave(self, subject: Changed, topic: Topic) -> None:
        """Undo `join`."""
        self._bus.unfollow(subject.project_id, subject.task_id)
        self._left(subject, topic)

    def _left(self, subject: Changed, topic: Topic) -> None:
        topic.followers -= 1
        if not topic.followers and self._topics.get(subject) is topic:
            del self._topics[subject]


class _Following:
    """The time for which somebody follows a subject. No generator: there is one for each watch."""

    __slots__ = ("_subject", "_topic", "_topics")

    def __init__(self, topics: Topics, subject: Changed) -> None:
        self._topics = topics
        self._subject = subject

    async def __aenter__(self) -> Topic:
        self._topic = await self._topics.join(self._subject)
        return self._topic

    async def __aexit__(self, *error: object) -> None:
        self._topics.leave(self._subject, self._topic)
