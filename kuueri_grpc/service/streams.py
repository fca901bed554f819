"""How many streams a project may have open, and for how long."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kuueri_grpc.domain.errors import ConnectionAged, TooManyWatches

#: The part of the longest time that a stream lasts: so that those that began together do not end together.
_LASTS = (0.75, 0.95)


class Streams:
    """The streams that are open in this process.

    Args:
        most: of one project.
        longest_s: what gRPC gives a stream on a connection that has reached its age; None: all the time.
    """

    def __init__(self, most: int, longest_s: float | None) -> None:
        self._most = most
        self._longest_s = longest_s
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def open(self, project_id: str) -> AsyncIterator[None]:
        """Hold while a stream is open.

        gRPC would cut it without a word, and cannot tell how old the connection is. A stream that ends of
        itself before that, whenever the connection reaches its age, leaves its client with a token.

        Raises:
            TooManyWatches: the project has as many as it may.
            ConnectionAged: it has lasted as long as it may.
        """
        if self._open[project_id] >= self._most:
            raise TooManyWatches(project_id, self._most)
        self._open[project_id] += 1
        deadline = asyncio.timeout(self._lasts_s())
        try:
            async with deadline:
                yield
        except TimeoutError:
            if deadline.expired():
                raise ConnectionAged from None
            raise
        finally:
            self._open[project_id] -= 1
            if not self._open[project_id]:
                del self._open[project_id]

    def _lasts_s(self) -> float | None:
        return None if self._longest_s is None else self._longest_s * random.uniform(*_LASTS)  # noqa: S311  spreads ends, hides nothing
