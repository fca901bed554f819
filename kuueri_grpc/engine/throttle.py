"""How many calls a project may make: over all instances, and without asking anybody during a call.

Each process has a bucket per project, and tells the others every moment what its callers took, which they
take from theirs. See `docs/adr/0010-throttling.md`.
"""

import asyncio
import logging
from collections.abc import Mapping

from kuueri_grpc.domain.errors import RateLimited
from kuueri_grpc.engine.backoff import TRANSIENT
from kuueri_grpc.engine.buckets import Buckets, Rate
from kuueri_grpc.ports import NO_TELEMETRY, SignalBus, Spent, Telemetry, Throttled

_log = logging.getLogger(__name__)

#: How often the others are told; at once when a project took this part of its bucket since.
_TELL_S = 0.2
_TELL_PART = 1 / 16


class CallThrottle:
    """The calls of projects. `rate` None: as many as they like."""

    def __init__(self, rate: Rate | None, bus: SignalBus, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._buckets = None if rate is None else Buckets(rate)
        self._tell_at = 0 if rate is None else max(1, int(rate.limit * _TELL_PART))
        self._spent: dict[str, int] = {}
        self._something, self._much = asyncio.Event(), asyncio.Event()

    def take(self, project_id: str) -> None:
        """Count a call. Raises `RateLimited`."""
        if self._buckets is None:
            return
        if wait_s := self._buckets.take(project_id):
            self._telemetry.call_throttled(Throttled.PROJECT)
            raise RateLimited.of_project(
                project_id, self._buckets.rate.limit, self._buckets.rate.window_s, wait_s
            )
        self._note(project_id, 1)

    def charge(self, project_id: str, calls: int) -> None:
        """Count a call that was taken as so many more, before any of them is done.

        More than the limit are let in when the project has made no other calls for a window, and delay those
        that follow by what they are too many. Raises `RateLimited`; none is counted then.
        """
        if self._buckets is None or calls <= 0:
            return
        if wait_s := self._buckets.take_more(project_id, calls):
            self._telemetry.call_throttled(Throttled.PROJECT)
            rate = self._buckets.rate
            raise RateLimited.of_batch(project_id, calls + 1, rate.limit, rate.window_s, wait_s)
        self._note(project_id, calls)

    def spent_elsewhere(self, spent: Mapping[str, int]) -> None:
        """Count what was counted by another process."""
        if self._buckets is not None:
            for project_id, calls in spent.items():
                self._buckets.charge(project_id, calls)

    def _note(self, project_id: str, calls: int) -> None:
        spent = self._spent[project_id] = self._spent.get(project_id, 0) + calls
        self._something.set()
        if spent >= self._tell_at:
            self._much.set()

    async def run(self) -> None:
        """Tell the others until cancelled."""
        while True:
            await self._something.wait()
            try:
                async with asyncio.timeout(_TELL_S):
                    await self._much.wait()
            except TimeoutError:
                pass
            await self.tell()

    async def tell(self) -> None:
        """Tell the others what was taken since the last time."""
        spent, self._spent = self._spent, {}
        self._something.clear()
        self._much.clear()
        try:
            await self._bus.send_spent(Spent(spent))
        except TRANSIENT as error:
            # Calls fail as well meanwhile; afterwards there is little to make up for.
            _log.debug("other instances were not told of calls: %s", error)
