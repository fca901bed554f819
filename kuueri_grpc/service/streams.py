"""How many streams a project may have open, and for how long."""

import random

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import TooManyWatches
from kuueri_grpc.engine.streams import Stream, Streams

#: The part of the longest time that a stream lasts: so that those that began together do not end together.
_LASTS = (0.75, 0.95)


class StreamLimits:
    """The limits of streams in this process.

    Args:
        most: of one project.
        longest_s: what gRPC gives a stream on a connection that has reached its age; None: all the time.
    """

    def __init__(self, most: int, longest_s: float | None) -> None:
        self._most = most
        self._longest_s = longest_s

    def new(self, streams: Streams, access: Access) -> Stream:
        """Return a stream to open (`with`).

        gRPC would cut it without a word, and cannot tell how old the connection is. A stream that ends of
        itself before that, whenever the connection reaches its age, leaves its client with a token.

        Raises:
            TooManyWatches: the project has as many as it may.
        """
        if streams.count(access.project_id) >= self._most:
            raise TooManyWatches(access.project_id, self._most)
        return streams.stream(access, self._lasts_s())

    def _lasts_s(self) -> float | None:
        return None if self._longest_s is None else self._longest_s * random.uniform(*_LASTS)  # noqa: S311  spreads ends, hides nothing
