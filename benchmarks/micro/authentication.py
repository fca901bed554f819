"""What authentication adds to a Subscribe: two real servers, one with it and one without, in turns.

Servers and the client of the store are in this process, the caller is in another, and everything but the
admission of calls is the same for both. With it: the token is received, read, found among those remembered,
compared and checked for its scope, the peer looked at, the project's bucket charged. Without it: a server of
this benchmark's own, which takes every call for the same project's, and no token in the call.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.micro import samples
from kuueri_grpc.dispatcher import GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.projects import Projects, Registered
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.pb.task_service_pb2_grpc import add_TaskServiceServicer_to_server
from kuueri_grpc.service.admission import Admission
from kuueri_grpc.service.aio_server import aio_server
from kuueri_grpc.service.auth import Metadata, admit
from kuueri_grpc.service.gate import CallGate
from kuueri_grpc.service.guard import CallGuard
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.open_methods import OpenMethods
from kuueri_grpc.service.peers import Peers
from kuueri_grpc.service.streams import StreamLimits
from kuueri_grpc.service.tasks import TaskService
from kuueri_grpc.service.wire import WireLimits
from kuueri_grpc.store.clock import StoreClock
from kuueri_grpc.store.connection import StoreAddress, initialise
from kuueri_grpc.store.embedded import EmbeddedValkey
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from kuueri_grpc.store.tasks import RedisTaskStore
from kuueri_grpc.store.vault import Vault

_QUEUE_LIMIT = 10_000_000
#: Never reached: what counting costs is wanted.
_RATE = Rate(1_000_000_000, 60)


@dataclass(frozen=True, slots=True)
class AuthenticationCost:
    """CPU of a Subscribe in us, medians over rounds: of the server and its client of the store.

    `added_us` is the median of the differences within a round, `spread_us` the middle half of these.
    """

    calls: int
    without_us: float
    with_us: float
    added_us: float
    spread_us: tuple[float, float]


class _OpenAdmission(Admission):
    """Takes every call for one project's."""

    access: Access

    async def admit(self, name: str, metadata: Metadata, peer: str) -> None:
        admit(self.access)


@dataclass(frozen=True, slots=True)
class _Bench:
    """The parts that both servers share."""

    tasks: TaskService
    authenticator: Authenticator
    throttle: CallThrottle
    project: Registered

    async def serve(self, stack: contextlib.AsyncExitStack, admission: Admission) -> int:
        wire = WireLimits()
        streams = StreamLimits(wire.max_watches, wire.longest_stream_s)
        guard = CallGuard(
            admission,
            CallGate(),
            streams,
            OpenMethods(wire.max_open_streams),
            wire.max_message_bytes,
            Limits().max_batch,
        )
        server = aio_server(guard.guarded, wire.options())
        add_TaskServiceServicer_to_server(self.tasks, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        return port


async def measure_authentication(directory: Path, rounds: int, calls: int) -> AuthenticationCost:
    """Make `calls` Subscribe calls to each server in each of `rounds` rounds."""
    async with contextlib.AsyncExitStack() as stack:
        bench = await _bench(stack, directory)
        peers = Peers(_RATE, _RATE)
        guarded = await bench.serve(stack, Admission(bench.authenticator, bench.throttle, peers))
        admission = _OpenAdmission(bench.authenticator, bench.throttle, peers)
        admission.access = await bench.authenticator.authenticate(bench.project.token)
        opened = await bench.serve(stack, admission)
        sides = {"with": f"{guarded} {calls} {bench.project.token}", "without": f"{opened} {calls}"}
        taken: dict[str, list[float]] = {side: [] for side in sides}
        caller = await stack.enter_async_context(_caller())
        for turn in range(rounds + 1):
            # Whatever grows with the number of tasks is the same for both.
            for side in sorted(sides, reverse=turn % 2 == 0):
                taken[side].append(await _cpu_us(caller, sides[side], calls))
    added = [a - b for a, b in zip(taken["with"][1:], taken["without"][1:], strict=True)]
    low, _, high = statistics.quantiles(added, n=4)
    return AuthenticationCost(
        calls=rounds * calls,
        without_us=statistics.median(taken["without"][1:]),
        with_us=statistics.median(taken["with"][1:]),
        added_us=statistics.median(added),
        spread_us=(low, high),
    )


@contextlib.asynccontextmanager
async def _caller() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.micro.subscriber"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        # It ends with its input, which communicate leaves open where there is nothing to say.
        await process.communicate(b"")


async def _cpu_us(caller: asyncio.subprocess.Process, order: str, calls: int) -> float:
    if caller.stdin is None or caller.stdout is None:
        raise RuntimeError("a caller without pipes")
    started = time.process_time()
    caller.stdin.write(f"{order}\n".encode())
    if await caller.stdout.readline() != b"\n":
        raise RuntimeError("the caller has failed")
    return 1e6 * (time.process_time() - started) / calls


async def _bench(stack: contextlib.AsyncExitStack, directory: Path) -> _Bench:
    embedded = await stack.enter_async_context(EmbeddedValkey(directory))
    address, settings, clock = StoreAddress(embedded.url), StoreSettings(), StoreClock()
    client = await stack.enter_async_context(address.connect())
    await initialise(client, settings.partitions, samples.KEYRING)
    runner, vault = ScriptRunner(client, settings), Vault(samples.KEYRING)
    tasks = RedisTaskStore(runner, settings, vault)
    execution = RedisExecutionStore(runner, settings, clock, vault, KeyRegistry(client))
    dispatcher = HttpDispatcher(GuardedTransport(TargetPolicy()), clock)
    stack.push_async_callback(dispatcher.aclose)
    signals = await stack.enter_async_context(address.connect_for_signals())
    bus = RedisSignalBus(signals, settings.partitions, "bench")
    # Nothing is run: the tasks are due later, and nobody claims.
    attempts = Attempts(dispatcher, Reporter(execution), clock, max_in_flight=1)
    revocations = Revocations(bus, attempts, "bench")
    store = RedisProjectStore(client, runner, settings.partitions, _QUEUE_LIMIT, vault)
    authenticator, throttle = Authenticator(store, clock), CallThrottle(_RATE, bus)
    projects = Projects(store, authenticator, revocations)
    service = TaskService(
        Commands(tasks, revocations, _QUEUE_LIMIT),
        WatchHub(tasks, bus, heartbeat_ms=15_000),
        projects,
        clock,
        samples.LIMITS,
        throttle,
    )
    telling = asyncio.create_task(throttle.run())
    stack.callback(telling.cancel)
    return _Bench(service, authenticator, throttle, await projects.register("bench@example.com"))
