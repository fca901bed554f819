"""The composition root: the only module that knows everything.

    Settings -> store (embedded or external) -> engine (scheduler, commands, watches) -> gRPC server

`serve` runs a server of one process until it is told to stop, `work` one process of several. Where they
return, the process is to end by `leave`: the gRPC server is closed, but not taken away.
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401  Python would read it when it first looks up a name
import functools
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from kuueri_grpc import __version__
from kuueri_grpc.config import Settings
from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.dispatcher import EgressProxy, GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.drain import Drain
from kuueri_grpc.engine.health import Health, Part
from kuueri_grpc.engine.leases import LeaseKeeper
from kuueri_grpc.engine.maintenance import Maintenance
from kuueri_grpc.engine.membership import SCHEDULER_ROLE, Membership
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.store_monitor import StoreMonitor
from kuueri_grpc.engine.switchboard import Switchboard
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import BacklogReader, Instance, StoreIdentity, Telemetry
from kuueri_grpc.process.collector import settle_collector
from kuueri_grpc.process.descriptors import fitted, raise_limit, target_connections
from kuueri_grpc.process.edge import call_rate, open_edge, target_policy
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.exposure import check_exposure, queue_limit
from kuueri_grpc.process.loops import Loop, running
from kuueri_grpc.process.observed import Unobserved, observed
from kuueri_grpc.process.port import reserved_port
from kuueri_grpc.process.ready import print_ready, shown
from kuueri_grpc.process.stop import Stop, StoppedEarly, stop_signals
from kuueri_grpc.process.store import OpenStore, is_embedded, open_store
from kuueri_grpc.service.certificates import CertificateError
from kuueri_grpc.service.counted import methods, refusals
from kuueri_grpc.service.server import EngineApi, GrpcServer
from kuueri_grpc.store.backlog import RedisBacklogReader
from kuueri_grpc.store.clock import StoreClock
from kuueri_grpc.store.connection import UnfitStore
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.identity import identify
from kuueri_grpc.store.instances import RedisInstanceRegistry
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.probe import RedisStoreProbe, await_store
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import ScriptRunner, read_all
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from kuueri_grpc.store.tasks import RedisTaskStore
from kuueri_grpc.store.vault import Vault
from kuueri_grpc.telemetry.endpoint import AdminAddress
from kuueri_grpc.telemetry.log import configure_logging, set_instance

_log = logging.getLogger(__name__)

API_ROLE = "api"
#: How long calls under way may take when nothing else is; and when time has run out, or somebody may be
#: waiting for the port.
_CALL_GRACE_S, _SHORT_CALL_GRACE_S = 1.0, 0.2


@dataclass(frozen=True, slots=True)
class _Process:
    """The parts of one server process."""

    attempts: Attempts
    reporter: Reporter
    scheduler: Scheduler
    drain: Drain
    membership: Membership
    leases: LeaseKeeper
    maintenance: Maintenance
    switchboard: Switchboard
    watches: WatchHub
    health: Health
    monitor: StoreMonitor
    engine: EngineApi
    backlog: BacklogReader
    store: StoreIdentity


async def serve(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until a signal to stop; print one line when ready, then call `on_ready` with the address.

    Raises:
        StartError: the store or the port cannot be used, or a part of the server broke down.
    """
    configure_logging(settings.log_level, settings.log_format)
    check_exposure(settings)
    raise_limit()
    settings = fitted(settings)
    # The port first: a store may take its time to load.
    with stop_signals() as stop, contextlib.suppress(StoppedEarly), reserved_port(settings) as port:
        async with open_store(settings, stop) as store:

            def ready(address: str | None) -> None:
                print_ready(address, store.description, settings.roles)
                if address is not None:
                    on_ready(address)

            served = settings.model_copy(update={"port": port or settings.port})
            await _serve(served, store, settings.admin_address, stop, ready)


async def work(
    settings: Settings, admin: AdminAddress | None, stop: Stop, on_ready: Callable[[], None]
) -> None:
    """Be one process of several: serve on a port that they share and an external store, until `stop`.

    `admin`: where the supervisor asks how this one stands; None: it does not.

    Raises:
        StartError: see `serve`.
    """
    configure_logging(settings.log_level, settings.log_format)
    if settings.redis_url is None:
        raise StartError("a worker needs a store that is there already")
    async with open_store(settings, stop) as store:
        await _serve(settings, store, admin, stop, lambda _: on_ready())


async def _serve(
    settings: Settings,
    store: OpenStore,
    admin: AdminAddress | None,
    stop: Stop,
    on_ready: Callable[[str | None], None],
) -> None:
    try:
        async with (
            observed(admin) as observation,
            _compose(settings, store, stop, observation.telemetry) as process,
        ):
            await _run(settings, process, observation, stop, on_ready)
    except StoppedEarly:
        pass
    except (UnfitStore, StoreUnavailable, CertificateError, OSError) as error:
        raise StartError(str(error)) from error


@contextlib.asynccontextmanager
async def _compose(
    settings: Settings, store: OpenStore, stop: Stop, telemetry: Telemetry
) -> AsyncIterator[_Process]:
    """Wire one process. What it opened is closed at the end; nothing runs yet."""
    partitions, address, vault = settings.database.partitions, store.address, Vault(store.keyring)
    instance = secrets.token_urlsafe(9)
    set_instance(instance)
    tasks_limit = queue_limit(settings)
    engine_settings = EngineSettings(
        max_in_flight=settings.service.max_in_flight,
        max_bytes=settings.service.max_bytes_in_flight,
        lease_ms=settings.service.lease_ms,
    )
    store_settings = StoreSettings(
        partitions=partitions,
        history_ms=settings.history_ms,
        max_losses=settings.service.max_losses,
        call_timeout_ms=settings.database.redis.timeout_ms,
    )
    async with contextlib.AsyncExitStack() as stack:
        read_all()
        client = await stack.enter_async_context(address.connect())
        signals_client = await stack.enter_async_context(address.connect_for_signals())
        checks_client = await stack.enter_async_context(address.connect_for_checks())
        runner = ScriptRunner(client, store_settings, telemetry)
        probe = RedisStoreProbe(checks_client, client, partitions, store.keyring, runner.observer)
        if await stop.comes_before(await_store(probe, address.location)):
            raise StoppedEarly
        health = Health()
        health.fail(Part.SERVER, "it is starting", logging.DEBUG)
        clock = StoreClock()
        tasks = RedisTaskStore(runner, store_settings, vault)
        key_registry = KeyRegistry(client, runner.observer)
        execution = RedisExecutionStore(runner, store_settings, clock, vault, key_registry)
        bus = RedisSignalBus(signals_client, partitions, instance, telemetry, runner.observer)
        transport = GuardedTransport(
            target_policy(settings),
            proxy=_egress_proxy(settings),
            max_answer_bytes=settings.module.http.max_answer_length,
            max_connections=target_connections(settings),
        )
        dispatcher = HttpDispatcher(transport, clock, max_per_host=settings.service.max_per_host)
        stack.push_async_callback(dispatcher.aclose)
        reporter = Reporter(execution)
        attempts = Attempts(
            dispatcher,
            reporter,
            clock,
            max_in_flight=engine_settings.max_in_flight,
            max_bytes=engine_settings.max_bytes,
            telemetry=telemetry,
        )
        revocations = Revocations(bus, attempts, instance)
        scheduler = Scheduler(
            execution, attempts, revocations, clock, engine_settings, instance, health, telemetry
        )
        watches = WatchHub(tasks, bus, engine_settings.heartbeat_ms)
        monitor = StoreMonitor(probe, bus, scheduler, watches, health, telemetry)
        project_store = RedisProjectStore(client, runner, partitions, tasks_limit, vault)
        authenticator = Authenticator(project_store, clock)
        projects = Projects(project_store, authenticator, revocations)
        throttle = CallThrottle(call_rate(settings.module.throttler), bus, telemetry)
        membership = Membership(
            RedisInstanceRegistry(client, runner.observer),
            attempts,
            scheduler,
            _announced(settings, instance, store.keyring),
            partitions,
        )
        yield _Process(
            attempts=attempts,
            reporter=reporter,
            scheduler=scheduler,
            drain=Drain(scheduler, watches, attempts, execution, telemetry),
            membership=membership,
            leases=LeaseKeeper(execution, attempts, engine_settings.lease_ms, telemetry),
            maintenance=Maintenance(execution, scheduler, projects, engine_settings.maintenance_ms),
            switchboard=Switchboard(bus, scheduler, watches, revocations, monitor, authenticator, throttle),
            watches=watches,
            health=health,
            monitor=monitor,
            engine=EngineApi(
                Commands(tasks, revocations, tasks_limit),
                watches,
                projects,
                authenticator,
                clock,
                throttle,
                telemetry,
            ),
            backlog=RedisBacklogReader(runner, store_settings),
            store=await identify(checks_client, embedded=is_embedded(settings)),
        )


def _egress_proxy(settings: Settings) -> EgressProxy | None:
    url = settings.egress_proxy
    return None if url is None else EgressProxy.parse(url.get_secret_value())


def _announced(settings: Settings, instance: str, keyring: Keyring) -> Instance:
    return Instance(
        instance_id=instance,
        version=__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        roles=settings.roles,
        start_time_ms=time.time_ns() // 1_000_000,
        in_flight=0,
        partitions=0,
        keys=keyring.ids,
    )


async def _run(
    settings: Settings,
    process: _Process,
    observation: Unobserved,
    stop: Stop,
    on_ready: Callable[[str | None], None],
) -> None:
    server = None
    if API_ROLE in settings.roles:
        observation.telemetry.prepare(methods(), refusals())
        server = await open_edge(settings, process.engine, target_policy(settings), process.store)
    loops: list[Loop] = [
        process.switchboard.run,
        process.reporter.run,
        process.leases.run,
        process.maintenance.run,
        process.monitor.run,
        process.membership.run,
        process.engine.throttle.run,
    ]
    if server is not None:
        loops += [
            functools.partial(_tell_health_checks, process.health, server),
            server.connections.run,
            server.wait_closed,
        ]
    if SCHEDULER_ROLE in settings.roles:
        loops.append(process.scheduler.run)
    async with running(loops, stop) as failures:
        attempts = process.attempts if SCHEDULER_ROLE in settings.roles else None
        observation.attach(attempts, process.watches, process.backlog, process.health, failures)
        if not await stop.comes_before(process.monitor.caught_up()):
            if server is not None:
                await server.start()
            settle_collector()
            process.health.mend(Part.SERVER)
            on_ready(None if server is None else shown(settings.host, server.port))
            await stop.wait()
        await _drain(process, server, settings.grace, stop)
        if failures:
            if server is not None:
                await server.stop(0)
            raise StartError(f"the server had to stop: {failures[0]}")


async def _tell_health_checks(health: Health, server: GrpcServer) -> None:
    changed = asyncio.Event()
    health.on_change(changed.set)
    while True:
        server.set_serving(serving=health.serving)
        await changed.wait()
        changed.clear()


async def _drain(process: _Process, server: GrpcServer | None, grace_s: float, stop: Stop) -> None:
    """Stop in order, health checks first and calls last, all within `grace_s` whatever the store does."""
    deadline = time.monotonic() + grace_s
    process.health.fail(Part.SERVER, "it is stopping", logging.INFO)
    if server is not None:
        server.drain()
    process.drain.begin()
    if server is not None and stop.deserted:
        # Whoever takes the place of the supervisor that is gone wants the port.
        await server.stop(_SHORT_CALL_GRACE_S)
    await process.drain.finish(max(0.0, deadline - time.monotonic()))
    left_s = min(_CALL_GRACE_S, max(_SHORT_CALL_GRACE_S, deadline - time.monotonic()))
    async with asyncio.TaskGroup() as last:
        last.create_task(process.membership.withdraw(left_s))
        if server is not None:
            # It is not stopped: that is left to the end of the process.
            last.create_task(server.close(left_s))
