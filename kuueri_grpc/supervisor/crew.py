"""All workers of a server, on the store that they share."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from kuueri_grpc.config import Settings
from kuueri_grpc.config.settings import CryptoSettings
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.handover import Order, pack_order
from kuueri_grpc.process.ready import print_ready, shown
from kuueri_grpc.process.socket_directory import socket_places
from kuueri_grpc.process.stop import Stop
from kuueri_grpc.process.store import OpenStore, open_store
from kuueri_grpc.store.data_dir import ValkeyStartError, prepare
from kuueri_grpc.supervisor.admin import Roster, administered
from kuueri_grpc.supervisor.worker_slot import WorkerSlot

#: What a worker may take to stop beyond the grace time, before it is killed.
_MARGIN_S = 5.0


async def run_crew(
    settings: Settings,
    port: int | None,
    waiting: list[asyncio.subprocess.Process],
    stop: Stop,
    on_ready: Callable[[str], None],
) -> None:
    """Open the store and run all workers on it until `stop`.

    Args:
        settings: of the server.
        port: that they share; None where they have no gRPC server.
        waiting: workers that were started ahead.
        stop: ends it.
        on_ready: called with the address when all of them serve.

    Raises:
        StoppedEarly: `stop` came while the store was starting.
        StartError: the store or the admin endpoint cannot be used, or a worker cannot start.
    """
    async with (
        administered(settings.admin_address, _socket_places(settings), stop) as roster,
        open_store(settings, stop) as store,
    ):
        await _Crew(settings, store, port, roster, waiting).run(stop, on_ready)


def _socket_places(settings: Settings) -> list[Path]:
    if settings.redis_url is None and settings.admin_address is not None:
        # Before the store is opened there, which makes it otherwise.
        with contextlib.suppress(ValkeyStartError):
            prepare(settings.data_dir)
    return socket_places(settings.data_dir)


class _Crew:
    """All workers."""

    def __init__(
        self,
        settings: Settings,
        store: OpenStore,
        port: int | None,
        roster: Roster,
        waiting: list[asyncio.subprocess.Process],
    ) -> None:
        self._settings = settings
        self._store = store
        self._port = port
        for_workers = _for_workers(settings, store, port)
        self._slots = [
            WorkerSlot(
                name,
                pack_order(Order(for_workers, roster.socket(name))),
                settings.grace + _MARGIN_S,
                settings.worker_timeout,
                roster,
                waiting,
            )
            for name in map(str, range(1, settings.workers + 1))
        ]

    async def run(self, stop: Stop, on_ready: Callable[[str], None]) -> None:
        """Run all workers until `stop`; tell when each has served. Raises `StartError`."""
        faults: list[str] = []
        try:
            async with asyncio.TaskGroup() as group:
                keepers = [group.create_task(slot.keep()) for slot in self._slots]
                if not await stop.comes_before(self._all_serve()):
                    self._announce(on_ready)
                    await stop.wait()
                for keeper in keepers:
                    keeper.cancel()
        except* StartError as failures:
            faults += [str(error) for error in failures.exceptions]
        if faults:
            # They have one cause, as a rule.
            raise StartError("\n".join(dict.fromkeys(faults)))

    async def _all_serve(self) -> None:
        for slot in self._slots:
            await slot.served()

    def _announce(self, on_ready: Callable[[str], None]) -> None:
        address = None if self._port is None else shown(self._settings.host, self._port)
        print_ready(address, self._store.description, self._settings.roles)
        if address is not None:
            on_ready(address)


def _for_workers(settings: Settings, store: OpenStore, port: int | None) -> Settings:
    """Return the settings of one worker: the store is there with its keys, and the port known."""
    redis = settings.database.redis.model_copy(update={"url": SecretStr(store.address.url), "host": None})
    database = settings.database.model_copy(update={"redis": redis})
    crypto = CryptoSettings(key=SecretStr(store.keyring.reveal()))
    service = settings.service.model_copy(update={"crypto": crypto})
    return settings.model_copy(
        update={"database": database, "service": service, "port": port or settings.port, "workers": 1}
    )
