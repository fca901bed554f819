"""A monitored process inside the test's own, on a real store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kuueri_grpc.store.backlog import RedisBacklogReader
from kuueri_grpc.telemetry.admin import serve_admin
from kuueri_grpc.telemetry.endpoint import AdminAddress
from kuueri_grpc.telemetry.metrics import MetricsTelemetry, new_registry
from kuueri_grpc.telemetry.monitor import ProcessMonitor
from tests.store.ports import Ports

FREE_PORT: AdminAddress = ("127.0.0.1", 0)


class Process:
    """A monitored process: what is wrong with it is what a test says."""

    def __init__(self, ports: Ports) -> None:
        self.obstacles: list[str] = []
        self.faults: list[str] = []
        self.registry = new_registry("1.2.3")
        self.telemetry = MetricsTelemetry(self.registry)
        #: Released whenever somebody wants to know how it stands.
        self.questions = asyncio.Semaphore(0)
        self.monitor = ProcessMonitor(self.registry)
        backlog = RedisBacklogReader(ports.runner, ports.settings)
        self.monitor.attach(backlog, self._obstacles, lambda: self.faults)

    def _obstacles(self) -> list[str]:
        self.questions.release()
        return self.obstacles

    @asynccontextmanager
    async def served(self, address: AdminAddress = FREE_PORT) -> AsyncIterator[str]:
        async with serve_admin(address, self.monitor) as bound:
            yield bound
