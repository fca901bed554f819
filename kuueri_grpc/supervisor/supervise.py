"""The supervising process, from start to end: the port, then the workers, then the store."""

import contextlib
from collections.abc import Callable

from kuueri_grpc.config import Settings
from kuueri_grpc.process.descriptors import fitted, raise_limit
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.exposure import check_exposure
from kuueri_grpc.process.port import reserved_port
from kuueri_grpc.process.stop import StoppedEarly, stop_signals
from kuueri_grpc.supervisor.worker_process import started_ahead
from kuueri_grpc.telemetry.log import configure_logging


async def supervise(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve with `settings.workers` processes until SIGTERM, SIGINT or SIGHUP.

    When all of them serve it prints one line, then calls `on_ready` with the address. Told to stop, it
    returns when every worker has ended.

    Raises:
        StartError: the store or the port cannot be used, or a worker cannot start.
    """
    configure_logging(settings.log_level, settings.log_format)
    check_exposure(settings)
    raise_limit()
    settings = fitted(settings)
    # The port first: a store may take its time to load, which workers use to import.
    with stop_signals() as stop, contextlib.suppress(StoppedEarly), reserved_port(settings) as port:
        async with contextlib.AsyncExitStack() as stack:
            try:
                waiting = await stack.enter_async_context(started_ahead(settings.workers))
            except OSError as error:
                raise StartError(f"a worker process cannot be started: {error}") from error
            # Here, so that this process imports its client of the store beside them, too.
            from kuueri_grpc.supervisor.crew import run_crew

            await run_crew(settings, port, waiting, stop, on_ready)
