"""A limit on attempts in flight per origin, so that one slow host cannot take every slot."""

import asyncio
from types import TracebackType

from kuueri_grpc.dispatcher.url import Origin


class OriginGate:
    """Lets at most `limit` holders in per origin; the others wait their turn, first come first served.

    An origin that nobody holds or waits for takes no memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._origins: dict[Origin, _Origin] = {}

    def __len__(self) -> int:
        """Return how many origins are in use."""
        return len(self._origins)

    def slot(self, origin: Origin) -> "_Origin":
        """Return what to hold one of the origin's slots with: `async with gate.slot(origin)`."""
        slots = self._origins.get(origin)
        if slots is None:
            slots = self._origins[origin] = _Origin(origin, self._limit, self._origins)
        return slots


class _Origin:
    """The slots of one origin. A class and no generator: it is entered on every attempt."""

    __slots__ = ("_origin", "_registry", "_semaphore", "_users")

    def __init__(self, origin: Origin, limit: int, registry: "dict[Origin, _Origin]") -> None:
        self._origin = origin
        self._semaphore = asyncio.Semaphore(limit)
        self._registry = registry
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self._semaphore.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._semaphore.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._registry[self._origin]
