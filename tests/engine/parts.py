"""The engine as a process has it, on a real store, with a dispatcher that the test answers for.

The dispatcher is the one double: it stands for the network. Store, signals and all of the engine are real.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.health import Health
from kuueri_grpc.engine.leases import LeaseKeeper
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.engine.store_monitor import StoreMonitor
from kuueri_grpc.engine.switchboard import Switchboard
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.ports import ANY_ROOM, ClaimBatch, Delivery, NotStarted, Room
from kuueri_grpc.store import keys
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.probe import RedisStoreProbe
from kuueri_grpc.store.signals import RedisSignalBus
from tests.keys import KEYRING
from tests.store.ports import HOUR_MS, PROJECT, QUEUE_LIMIT, SUCCESS, Ports, signal_bus

PATIENCE_S = 30

_Result = TypeVar("_Result")


async def soon(awaitable: Awaitable[_Result]) -> _Result:
    """Wait for what must come, but not for ever."""
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


class ScriptedDispatcher:
    """`ports.Dispatcher` whose network is the test: it sees each request start, and says what comes of it."""

    def __init__(self) -> None:
        self.sent: list[Delivery] = []
        self.aborted: list[Delivery] = []
        self.not_started: list[Delivery] = []
        #: While it is clear, deliveries wait for a connection: nothing of them is sent yet.
        self.connections = asyncio.Event()
        self.connections.set()
        self._started: asyncio.Queue[Delivery] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[Outcome]] = {}
        self._by_itself: Outcome | None = None

    async def send(self, delivery: Delivery, may_start: Callable[[], bool]) -> Outcome:
        await self.connections.wait()
        if not may_start():
            self.not_started.append(delivery)
            raise NotStarted
        self.sent.append(delivery)
        self._started.put_nowait(delivery)
        if self._by_itself is not None:
            return self._by_itself
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._answers[delivery.task_id] = answer
        try:
            return await answer
        except asyncio.CancelledError:
            self.aborted.append(delivery)
            raise

    @property
    def in_flight(self) -> list[str]:
        """The tasks whose requests are not answered yet."""
        return list(self._answers)

    async def started(self) -> Delivery:
        """Wait for the next request that is sent."""
        return await soon(self._started.get())

    def answer(self, task_id: str, outcome: Outcome = SUCCESS) -> None:
        """Answer the request of a task that is in flight."""
        self._answers.pop(task_id).set_result(outcome)

    def break_down(self, task_id: str, error: Exception) -> None:
        """Let the sending of a request raise what no sender may raise."""
        self._answers.pop(task_id).set_exception(error)

    def answer_all(self, outcome: Outcome = SUCCESS) -> None:
        """Answer every request at once from now on."""
        self._by_itself = outcome

    async def aclose(self) -> None:
        """Nothing is open."""


class SlowAnswers(RedisExecutionStore):
    """The real store, far away: claims take effect at once, but answer only when the gate is open."""

    gate: asyncio.Event
    claimed: asyncio.Queue[list[ClaimBatch]]

    @classmethod
    def of(cls, ports: Ports) -> "SlowAnswers":
        store = cls(*ports.execution_parts)
        store.gate, store.claimed = asyncio.Event(), asyncio.Queue()
        return store

    async def claim(
        self,
        limits: Mapping[int, int],
        instance: str,
        lease_ms: int,
        room: Room = ANY_ROOM,
    ) -> list[ClaimBatch]:
        batches = await super().claim(limits, instance, lease_ms, room)
        self.claimed.put_nowait(batches)
        await self.gate.wait()
        return batches


@dataclass(frozen=True)
class Instance:
    """One server process's engine."""

    name: str
    bus: RedisSignalBus
    dispatcher: ScriptedDispatcher
    reporter: Reporter
    attempts: Attempts
    revocations: Revocations
    scheduler: Scheduler
    keeper: LeaseKeeper
    hub: WatchHub
    commands: Commands
    switchboard: Switchboard
    monitor: StoreMonitor
    authenticator: Authenticator
    projects: Projects


@contextlib.asynccontextmanager
async def instance(
    ports: Ports,
    name: str = "here",
    *,
    max_in_flight: int = 10,
    max_bytes: int = 256 << 20,
    lease_ms: int = HOUR_MS,
    heartbeat_ms: int = HOUR_MS,
    execution: RedisExecutionStore | None = None,
    dispatcher: ScriptedDispatcher | None = None,
) -> AsyncIterator[Instance]:
    """Wire an engine. Nothing of it runs yet; see `running`. Attempts left at the end are aborted."""
    execution = execution or ports.execution
    settings = EngineSettings(max_in_flight=max_in_flight, max_bytes=max_bytes, lease_ms=lease_ms)
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(signal_bus(ports.url, ports.settings, name))
        dispatcher, reporter = dispatcher or ScriptedDispatcher(), Reporter(execution)
        attempts = Attempts(
            dispatcher, reporter, ports.clock, max_in_flight=max_in_flight, max_bytes=max_bytes
        )
        revocations = Revocations(bus, attempts, name)
        health = Health()
        scheduler = Scheduler(execution, attempts, revocations, ports.clock, settings, name, health)
        hub = WatchHub(ports.tasks, bus, heartbeat_ms)
        address = StoreAddress(ports.url)
        checks = await stack.enter_async_context(address.connect_for_checks())
        served = await stack.enter_async_context(address.connect())
        probe = RedisStoreProbe(checks, served, ports.settings.partitions, KEYRING, ports.runner.observer)
        monitor = StoreMonitor(probe, bus, scheduler, hub, health)
        authenticator = Authenticator(ports.projects, ports.clock)
        yield Instance(
            name,
            bus,
            dispatcher,
            reporter,
            attempts,
            revocations,
            scheduler,
            LeaseKeeper(execution, attempts, lease_ms),
            hub,
            Commands(ports.tasks, revocations, QUEUE_LIMIT),
            Switchboard(bus, scheduler, hub, revocations, monitor, authenticator, CallThrottle(None, bus)),
            monitor,
            authenticator,
            Projects(ports.projects, authenticator, revocations),
        )
        await attempts.abort_all()


async def listeners(ports: Ports, here: Instance, task_id: str | None) -> int:
    """Return how many connections hear of a task, or of the whole project."""
    # Confirmed behind what was unsubscribed before, on the same connection.
    await here.bus.follow(PROJECT, "fence")
    here.bus.unfollow(PROJECT, "fence")
    partition = keys.partition_of(PROJECT, ports.settings.partitions)
    channel = keys.news_channel(partition, PROJECT)
    if task_id is not None:
        channel = keys.watch_channel(partition, PROJECT, task_id)
    ((_, count),) = await ports.client.pubsub_numsub(channel)
    return int(count)


@contextlib.asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops until the end of the block; one that broke down fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result


@contextlib.asynccontextmanager
async def process(ports: Ports, name: str = "here", **more: Any) -> AsyncIterator[Instance]:
    """A whole server process but its gRPC edge: wired, connected, all loops running."""
    async with instance(ports, name, **more) as here:
        loops = (
            here.switchboard.run(),
            here.monitor.run(),
            here.reporter.run(),
            here.scheduler.run(),
            here.keeper.run(),
        )
        async with running(*loops):
            await soon(here.monitor.caught_up())
            yield here
