"""What operators see of one process: its metrics, its health, and the endpoint that shows them."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from kuueri_grpc import __version__
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.health import Health
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import NO_TELEMETRY, BacklogReader, Telemetry
from kuueri_grpc.telemetry.endpoint import AdminAddress

_log = logging.getLogger(__name__)


class Unobserved:
    """A process without an admin endpoint: nothing is counted."""

    telemetry: Telemetry = NO_TELEMETRY

    def attach(
        self,
        attempts: Attempts | None,
        watches: WatchHub,
        backlog: BacklogReader,
        health: Health,
        failures: Sequence[BaseException],
    ) -> None:
        """Look at the parts of the process from now on.

        `attempts` None: it makes none. `failures`: what its loops broke down with.
        """


class Observed(Unobserved):
    """A process that counts what it does, for an admin endpoint."""

    def __init__(self) -> None:
        # Here and below: without an endpoint nobody has to wait for the client library and the HTTP server.
        from kuueri_grpc.telemetry.metrics import MetricsTelemetry, new_registry
        from kuueri_grpc.telemetry.monitor import ProcessMonitor

        self._registry = new_registry(__version__)
        self.telemetry = MetricsTelemetry(self._registry)
        self.monitor = ProcessMonitor(self._registry)

    def attach(
        self,
        attempts: Attempts | None,
        watches: WatchHub,
        backlog: BacklogReader,
        health: Health,
        failures: Sequence[BaseException],
    ) -> None:
        """See `Unobserved`."""
        from kuueri_grpc.telemetry.state import register_gauge

        def register(name: str, text: str, read: Callable[[], float]) -> None:
            register_gauge(self._registry, name, text, read)

        register("kuueri_watches", "Watches that clients have open.", lambda: watches.watchers)
        if attempts is not None:
            register("kuueri_attempts_in_flight", "Attempts under way here.", lambda: attempts.in_flight)
            lanes = attempts.lanes
            register(
                "kuueri_attempts_waiting",
                "Those that wait for a turn at their target.",
                lambda: lanes.waiting,
            )
            register("kuueri_attempt_slots_free", "Attempts that could start.", lambda: attempts.free_slots)
        self.monitor.attach(
            backlog,
            health.reasons,
            lambda: [f"a loop broke down ({type(error).__name__})" for error in failures],
        )


@contextlib.asynccontextmanager
async def observed(address: AdminAddress | None) -> AsyncIterator[Unobserved]:
    """Serve the admin endpoint, if there is to be one, until the block ends; it says "starting" at first.

    Raises:
        OSError: the address cannot be listened on.
    """
    if address is None:
        yield Unobserved()
        return
    from kuueri_grpc.telemetry.admin import serve_admin

    process = Observed()
    async with serve_admin(address, process.monitor) as bound:
        # The socket of a worker is for its supervisor, which tells where both are for everybody.
        level = logging.DEBUG if isinstance(address, Path) else logging.INFO
        _log.log(
            level, "metrics and health are on %s", bound, extra={"event": "admin_serves", "address": bound}
        )
        yield process
