"""The supervisor's admin endpoint: it answers for all workers, whom it asks on sockets of their own."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from kuueri_grpc import __version__
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.loops import running
from kuueri_grpc.process.socket_directory import socket_directory
from kuueri_grpc.process.stop import Stop
from kuueri_grpc.telemetry.endpoint import AdminAddress

_log = logging.getLogger(__name__)


class Roster:
    """Tells the admin endpoint which workers serve. Without an endpoint there is nobody to tell.

    Args:
        directory: where workers have the sockets of their own endpoints.
        join: told of a worker that serves, and of its socket.
        leave: told of a worker that has ended.
        hung: told when a worker stands still and is killed.
    """

    def __init__(
        self,
        directory: Path | None = None,
        join: Callable[[str, Path], None] = lambda _, __: None,
        leave: Callable[[str], None] = lambda _: None,
        hung: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._join = join
        self._leave = leave
        self._hung = hung

    def socket(self, worker: str) -> Path | None:
        """Return where a worker is to serve its own endpoint; None: it need not."""
        return None if self._directory is None else self._directory / f"{worker}.sock"

    def serving(self, worker: str) -> None:
        """A worker serves."""
        if (socket := self.socket(worker)) is not None:
            self._join(worker, socket)

    def hung(self) -> None:
        """A worker stands still and is killed."""
        self._hung()

    def ended(self, worker: str) -> None:
        """A worker has ended, whether it had served or not."""
        self._leave(worker)


@contextlib.asynccontextmanager
async def administered(
    address: AdminAddress | None, places: Sequence[Path], stop: Stop
) -> AsyncIterator[Roster]:
    """Serve the admin endpoint, if there is to be one, until the block ends.

    `places`: where to put sockets, see `socket_places`.

    Raises:
        StartError: the address cannot be listened on, there is no place, or asking the workers broke down.
    """
    if address is None:
        yield Roster()
        return
    # Here, so that a supervisor without an endpoint is spared what only that needs.
    from kuueri_grpc.telemetry.admin import serve_admin
    from kuueri_grpc.telemetry.fleet import Fleet
    from kuueri_grpc.telemetry.metrics import new_registry

    fleet = Fleet(new_registry(__version__))
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(socket_directory(places))
        try:
            bound = await stack.enter_async_context(serve_admin(address, fleet))
        except OSError as error:
            raise StartError(str(error)) from error
        _log.info("metrics and health are on %s", bound, extra={"event": "admin_serves", "address": bound})
        failures = await stack.enter_async_context(running([fleet.run], stop))
        yield Roster(directory, fleet.join, fleet.leave, fleet.hung)
        if failures:
            raise StartError(f"the admin endpoint broke down: {failures[0]}")
