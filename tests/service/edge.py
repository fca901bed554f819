"""A real server in this process, over a real channel and a real store.

Nothing is dispatched: tasks move by calls alone, or by a claim that a test makes itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from kuueri_grpc.dispatcher import GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.health import Health
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.store_monitor import StoreMonitor
from kuueri_grpc.engine.switchboard import Switchboard
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub
from kuueri_grpc.pb.server_service_pb2_grpc import ServerServiceStub
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub
from kuueri_grpc.ports import NO_TELEMETRY, Claim, Telemetry
from kuueri_grpc.service.certificates import CertificateFiles
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.server import EngineApi, GrpcServer, build_server
from kuueri_grpc.service.server_info import About
from kuueri_grpc.service.wire import WireLimits
from kuueri_grpc.store.clock import StoreClock
from kuueri_grpc.store.connection import StoreAddress, initialise
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.keys import partition_of
from kuueri_grpc.store.probe import RedisStoreProbe
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from kuueri_grpc.store.tasks import RedisTaskStore
from tests.keys import KEYRING, VAULT

PARTITIONS = 4
QUEUE_LIMIT = 1_000
INSTANCE = "here"

Metadata = tuple[tuple[str, str], ...]


class Edge:
    """A server, a channel to it, and what is behind it."""

    def __init__(
        self, server: GrpcServer, engine: EngineApi, execution: RedisExecutionStore, channel: grpc.aio.Channel
    ) -> None:
        self.server = server
        self.engine = engine
        self.channel = channel
        self.tasks = TaskServiceStub(channel)
        self.projects = ProjectServiceStub(channel)
        self.info = ServerServiceStub(channel)
        self._execution = execution

    async def register(self, email: str) -> "Caller":
        response = await self.projects.Register(projects_pb.RegisterRequest(email=email))
        return Caller(response.project.project_id, response.token)

    async def claim(self, project_id: str) -> list[Claim]:
        """Take what is due, as a scheduler does."""
        limits = {partition_of(project_id, PARTITIONS): 100}
        return [
            claim
            for batch in await self._execution.claim(limits, INSTANCE, lease_ms=60_000)
            for claim in batch.claims
        ]


@dataclass(frozen=True)
class Caller:
    """A project, and the metadata that its calls carry."""

    project_id: str
    token: str

    @property
    def metadata(self) -> Metadata:
        return (("authorization", f"Bearer {self.token}"),)


@asynccontextmanager
async def serving(
    store_url: str,
    limits: Limits | None = None,
    wire: WireLimits | None = None,
    calls: Rate | None = None,
    *,
    queue_limit: int = QUEUE_LIMIT,
    heartbeat_ms: int = 15_000,
    feed_cap: int = 10_000,
    timeline_cap: int = 10_000,
    telemetry: Telemetry = NO_TELEMETRY,
    certificates: CertificateFiles | None = None,
    channel_credentials: grpc.ChannelCredentials | None = None,
    admin_token: str | None = None,
    instance: str = INSTANCE,
    about: About = About(),
) -> AsyncIterator[Edge]:
    """Run a server until the end of the block; with `certificates`, `channel_credentials` are for them."""
    async with AsyncExitStack() as stack:
        address = StoreAddress(store_url)
        client = await stack.enter_async_context(address.connect())
        for_signals = await stack.enter_async_context(address.connect_for_signals())
        await initialise(client, PARTITIONS, KEYRING)
        clock = StoreClock()
        settings = StoreSettings(partitions=PARTITIONS, feed_cap=feed_cap, timeline_cap=timeline_cap)
        runner = ScriptRunner(client, settings)
        tasks = RedisTaskStore(runner, settings, VAULT)
        execution = RedisExecutionStore(runner, settings, clock, VAULT, KeyRegistry(client))
        dispatcher = HttpDispatcher(GuardedTransport(TargetPolicy()), clock)
        stack.push_async_callback(dispatcher.aclose)
        attempts = Attempts(dispatcher, Reporter(execution), clock, max_in_flight=1)
        bus = RedisSignalBus(for_signals, PARTITIONS, instance)
        revocations = Revocations(bus, attempts, instance)
        watches = WatchHub(tasks, bus, heartbeat_ms)
        # It is told what is due and never runs.
        health = Health()
        scheduler = Scheduler(execution, attempts, revocations, clock, EngineSettings(), instance, health)
        checks = await stack.enter_async_context(address.connect_for_checks())
        probe = RedisStoreProbe(checks, client, PARTITIONS, KEYRING, runner.observer)
        monitor = StoreMonitor(probe, bus, scheduler, watches, health)
        project_store = RedisProjectStore(client, runner, PARTITIONS, queue_limit, VAULT)
        authenticator = Authenticator(project_store, clock)
        throttle = CallThrottle(calls, bus, telemetry)
        switchboard = Switchboard(bus, scheduler, watches, revocations, monitor, authenticator, throttle)
        await _hear(stack, switchboard, monitor)
        engine = EngineApi(
            Commands(tasks, revocations, queue_limit),
            watches,
            Projects(project_store, authenticator, revocations),
            authenticator,
            clock,
            throttle,
            telemetry,
        )
        server = await build_server(
            engine,
            limits or Limits(),
            wire or WireLimits(),
            certificates=certificates,
            admin_token=admin_token,
            about=about,
        )
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(connect(server.port, channel_credentials))
        yield Edge(server, engine, execution, channel)


def connect(
    port: int, credentials: grpc.ChannelCredentials | None = None, *more: tuple[str, int]
) -> grpc.aio.Channel:
    """Return a channel of its own to a server on this machine; in plain text without credentials."""
    address = f"127.0.0.1:{port}"
    # Otherwise gRPC shares one connection among channels that look alike.
    options = [("grpc.use_local_subchannel_pool", 1), *more]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)


async def _hear(stack: AsyncExitStack, switchboard: Switchboard, monitor: StoreMonitor) -> None:
    """Hand signals on until the stack is left; return once they arrive."""
    loops = [asyncio.create_task(switchboard.run()), asyncio.create_task(monitor.run())]

    async def end() -> None:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)

    stack.push_async_callback(end)
    await monitor.caught_up()
