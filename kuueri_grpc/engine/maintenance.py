"""What has to be done now and then."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from kuueri_grpc.engine.backoff import TRANSIENT
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.ports import ExecutionStore

_log = logging.getLogger(__name__)

#: After how long a deletion that another process was at is looked at again.
_RECHECK_MS = 5_000


class Maintenance:
    """Once a minute: drop index entries of expired history, finish deletions, look at every partition again.

    The last should never find anything: it is the net under the signals.
    """

    def __init__(
        self, store: ExecutionStore, scheduler: Scheduler, projects: Projects, interval_ms: int
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._projects = projects
        self._interval_ms = interval_ms

    async def run(self) -> None:
        """Repeat until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._repeat(self._scheduler.look_again, self._store.sweep))
            # A deletion may take minutes, which the others do not wait for.
            loops.create_task(self._finish_deletions())

    async def _finish_deletions(self) -> None:
        # What a crash broke off does not wait for the first minute to be over, nor for the next one where the
        # process that was at it may have crashed, too.
        while True:
            all_gone = await _done(self._projects.finish_deletions)
            await self._sleep(self._interval_ms if all_gone else min(_RECHECK_MS, self._interval_ms))

    async def _repeat(self, *steps: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._sleep(self._interval_ms)
            for step in steps:
                await _done(step)

    @staticmethod
    async def _sleep(about_ms: int) -> None:
        # Spread out, so that many processes do not do it in the same moment.
        await asyncio.sleep(about_ms * random.uniform(0.8, 1.2) / 1_000)  # noqa: S311 - not a secret


async def _done(step: Callable[[], Awaitable[object]]) -> object:
    """Return what a step gives; True where it failed, which does not keep the others from their turn."""
    try:
        return await step()
    except TRANSIENT as error:
        _log.warning("maintenance failed, the next one comes by itself: %s", error)
        return True
