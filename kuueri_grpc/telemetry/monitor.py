"""How one process stands: what its admin endpoint answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Backlog, BacklogReader
from kuueri_grpc.telemetry.admin import Readiness
from kuueri_grpc.telemetry.state import Gathered, backlog_metrics, gauge

#: How long the store may take to show that it serves; its client's own time-out is longer.
_PROBE_S = 1.0


class ProcessMonitor:
    """`Monitored` of one process.

    Args:
        registry: its metrics.
        backlog: what waits in the store.
        probe: returns when the store has shown that it serves; raises `StoreUnavailable`.
        conditions: reason -> whether it stands against being ready.
        faults: what has broken down for good.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        backlog: BacklogReader,
        probe: Callable[[], Awaitable[object]],
        conditions: Mapping[str, Callable[[], bool]],
        faults: Callable[[], Sequence[str]],
    ) -> None:
        self._registry = registry
        self._backlog = backlog
        self._probe = probe
        self._conditions = conditions
        self._faults = faults

    def faults(self) -> Sequence[str]:
        """See `Monitored`."""
        return self._faults()

    async def readiness(self) -> Readiness:
        """See `Monitored`."""
        reasons = [reason for reason, holds in self._conditions.items() if holds()]
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._probe()
        except StoreUnavailable as error:
            reasons.append(str(error))
        except TimeoutError:
            reasons.append(f"the store did not answer within {_PROBE_S:g} s")
        return Readiness(tuple(reasons))

    async def metrics(self, *, of_store: bool) -> Collector:
        """See `Monitored`. Without an answer of the store its metrics are left out."""
        readiness = await self.readiness()
        ready = gauge("kuueri_ready", "1 when calls should be sent here.", int(readiness.ready))
        backlog = await self._read_backlog() if of_store else None
        return Gathered(self._registry.collect(), [ready], backlog_metrics(backlog) if backlog else ())

    async def _read_backlog(self) -> Backlog | None:
        try:
            async with asyncio.timeout(_PROBE_S):
                return await self._backlog.read()
        except (StoreUnavailable, TimeoutError):
            return None
