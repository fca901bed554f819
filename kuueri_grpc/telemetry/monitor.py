"""How one process stands: what its admin endpoint answers."""

import asyncio
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Backlog, BacklogReader
from kuueri_grpc.telemetry.endpoint import Readiness
from kuueri_grpc.telemetry.state import Gathered, backlog_metrics, gauge

#: How long the store may take to tell what waits in it; its client's own time-out is longer.
_BACKLOG_S = 1.0


class ProcessMonitor:
    """`Monitored` of one process, whose metrics are in `registry`. It is starting until it is `attached`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._backlog: BacklogReader | None = None
        self._obstacles: Callable[[], Sequence[str]] = lambda: ("server: it is starting",)
        self._faults: Callable[[], Sequence[str]] = lambda: ()

    def attach(
        self,
        backlog: BacklogReader,
        obstacles: Callable[[], Sequence[str]],
        faults: Callable[[], Sequence[str]],
    ) -> None:
        """Look at the parts of the process from now on.

        Args:
            backlog: what waits in the store.
            obstacles: why calls should not be sent here now.
            faults: what has broken down for good.
        """
        self._backlog = backlog
        self._obstacles = obstacles
        self._faults = faults

    def faults(self) -> Sequence[str]:
        """See `Monitored`."""
        return self._faults()

    async def readiness(self) -> Readiness:
        """See `Monitored`."""
        return Readiness(tuple(self._obstacles()))

    async def metrics(self, *, of_store: bool) -> Collector:
        """See `Monitored`. While the store does not answer its metrics are left out."""
        ready = gauge("kuueri_ready", "1 when calls should be sent here.", int(not self._obstacles()))
        backlog = await self._read_backlog() if of_store else None
        return Gathered(self._registry.collect(), [ready], backlog_metrics(backlog) if backlog else ())

    async def _read_backlog(self) -> Backlog | None:
        if self._backlog is None:
            return None
        try:
            async with asyncio.timeout(_BACKLOG_S):
                return await self._backlog.read()
        except (StoreUnavailable, TimeoutError):
            return None
