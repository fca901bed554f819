"""The composition root: the only module that knows everything.

    Settings -> store (embedded or external) -> engine (scheduler, commands, watches) -> gRPC server

`serve` runs one server process until it is told to stop.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from kuueri_grpc.config import Settings
from kuueri_grpc.dispatcher import AddressGuard, GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.leases import LeaseKeeper
from kuueri_grpc.engine.maintenance import Maintenance
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.switchboard import Switchboard
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.server import EngineApi, GrpcServer, build_server
from kuueri_grpc.store.clock import StoreClock
from kuueri_grpc.store.connection import StoreAddress, UnfitStore, initialise
from kuueri_grpc.store.embedded import EmbeddedValkey, ValkeyStartError
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from kuueri_grpc.store.tasks import RedisTaskStore
from kuueri_grpc.telemetry.log import configure_logging

_log = logging.getLogger(__name__)

#: How long attempts in flight may take to end when the server is told to stop.
_GRACE_S = 10.0
#: How long calls under way may take after that.
_CALL_GRACE_S = 1.0


class StartError(Exception):
    """The server cannot start, or cannot go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Store:
    """Where the store is, and what ends when the embedded one does."""

    address: StoreAddress
    description: str
    embedded: EmbeddedValkey | None = None


@dataclass(frozen=True, slots=True)
class _Process:
    """The parts of one server process."""

    attempts: Attempts
    reporter: Reporter
    scheduler: Scheduler
    leases: LeaseKeeper
    maintenance: Maintenance
    switchboard: Switchboard
    watches: WatchHub
    engine: EngineApi


async def serve(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT; print one line with the address when ready, then call `on_ready`.

    Raises:
        StartError: the store or the port cannot be used, or the embedded store ended.
    """
    configure_logging(settings.level)
    _refuse_what_is_not_in_force(settings)
    with _stop_signals() as stop:
        try:
            async with _open_store(settings) as store, _compose(settings, store.address) as process:
                await _run(settings, store, process, stop, on_ready)
        except (ValkeyStartError, UnfitStore, StoreUnavailable, OSError) as error:
            raise StartError(str(error)) from error


def _refuse_what_is_not_in_force(settings: Settings) -> None:
    """Refuse settings that promise what this version does not do."""
    if settings.service.crypto.key is not None:
        raise StartError(
            "SERVICE.CRYPTO.KEY is set, but this version does not encrypt tasks at rest yet; "
            "remove it to store them as they are"
        )
    if settings.module.throttler.limit:
        raise StartError(
            "MODULE.THROTTLER.LIMIT is set, but this version does not throttle calls yet; remove it"
        )


@contextlib.contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM or SIGINT sets. A second one ends the process the hard way."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def request_stop(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop, number)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _open_store(settings: Settings) -> AsyncIterator[_Store]:
    url = settings.redis_url
    if url is not None:
        yield _Store(StoreAddress(url.get_secret_value()), "external store")
        return
    async with EmbeddedValkey(settings.data_dir) as embedded:
        yield _Store(StoreAddress(embedded.url), f"embedded store in {settings.data_dir}", embedded)


@contextlib.asynccontextmanager
async def _compose(settings: Settings, address: StoreAddress) -> AsyncIterator[_Process]:
    """Wire one process. What it opened is closed at the end; nothing runs yet."""
    partitions = settings.database.partitions
    instance = secrets.token_urlsafe(9)
    queue_limit = settings.service.queue.limit
    engine_settings = EngineSettings(
        max_in_flight=settings.service.max_in_flight,
        lease_ms=settings.service.lease_ms,
        queue_limit=queue_limit,
    )
    store_settings = StoreSettings(partitions=partitions, history_ms=settings.history_ms)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(address.connect())
        signals_client = await stack.enter_async_context(address.connect_for_signals())
        await initialise(client, partitions)
        runner = ScriptRunner(client, store_settings)
        clock = StoreClock()
        tasks = RedisTaskStore(runner, store_settings)
        execution = RedisExecutionStore(runner, store_settings, clock)
        bus = RedisSignalBus(signals_client, partitions, instance)
        transport = GuardedTransport(AddressGuard(str(network) for network in settings.allow_target))
        dispatcher = HttpDispatcher(transport, clock, max_per_host=settings.service.max_per_host)
        stack.push_async_callback(dispatcher.aclose)
        reporter = Reporter(execution)
        attempts = Attempts(dispatcher, reporter, clock, max_in_flight=engine_settings.max_in_flight)
        revocations = Revocations(bus, attempts, instance)
        scheduler = Scheduler(execution, attempts, revocations, clock, engine_settings, instance)
        watches = WatchHub(tasks, bus, engine_settings.heartbeat_ms)
        projects = Projects(RedisProjectStore(client, runner, partitions, queue_limit), clock)
        yield _Process(
            attempts=attempts,
            reporter=reporter,
            scheduler=scheduler,
            leases=LeaseKeeper(execution, attempts, engine_settings.lease_ms),
            maintenance=Maintenance(execution, scheduler, engine_settings.maintenance_ms),
            switchboard=Switchboard(bus, scheduler, watches, revocations),
            watches=watches,
            engine=EngineApi(Commands(tasks, revocations, queue_limit), watches, projects, clock),
        )


async def _run(
    settings: Settings,
    store: _Store,
    process: _Process,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
) -> None:
    limits = Limits(max_body_bytes=settings.module.http.max_body_length)
    server = await build_server(process.engine, limits, host=settings.host, port=settings.port)
    loops: list[Coroutine[Any, Any, object]] = [
        process.switchboard.run(),
        process.reporter.run(),
        process.scheduler.run(),
        process.leases.run(),
        process.maintenance.run(),
    ]
    if store.embedded is not None:
        loops.append(_outlive(store.embedded))
    async with _running(loops, stop) as failed:
        await process.switchboard.connected()
        await server.start()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{server.port}"
        print(f"kuueri is ready on {address} ({store.description})", flush=True)  # noqa: T201
        on_ready(address)
        await stop.wait()
        await _drain(process, server)
        if failed():
            raise StartError(f"the server had to stop: {failed()[0]}")


async def _outlive(embedded: EmbeddedValkey) -> None:
    raise StartError(f"the embedded store ended: {await embedded.wait()}")


@contextlib.asynccontextmanager
async def _running(
    loops: list[Coroutine[Any, Any, object]], stop: asyncio.Event
) -> AsyncIterator[Callable[[], list[BaseException]]]:
    """Run the loops until the block ends; one that breaks down sets `stop`, none dies in silence."""
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[object]) -> None:
        if task.cancelled():
            return
        if error := task.exception():
            _log.error("a loop of the server broke down", exc_info=error)
            failures.append(error)
            stop.set()

    tasks = [asyncio.create_task(loop) for loop in loops]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield lambda: failures
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(process: _Process, server: GrpcServer) -> None:
    """Stop in order: no new claims, watches closed with their tokens, attempts ended, calls ended."""
    await server.drain()
    process.scheduler.stop()
    process.watches.drain()
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.attempts.drained()
    except TimeoutError:
        await process.attempts.abort_all()
    await server.stop(_CALL_GRACE_S)
