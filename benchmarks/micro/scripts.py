"""The time of the store's scripts, on an embedded store of their own."""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import procfs
from benchmarks.micro import samples
from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule, TaskSpec
from kuueri_grpc.ports import Claim, NewTask, Report
from kuueri_grpc.store import keys
from kuueri_grpc.store.clock import StoreClock
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.connection import StoreAddress, initialise
from kuueri_grpc.store.embedded import EmbeddedValkey
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.tasks import RedisTaskStore
from kuueri_grpc.store.vault import Vault

#: The one project there is.
PROJECT = "bench"
_QUEUE_LIMIT = 10_000_000
_LEASE_MS = 600_000
#: Not run by scripts.
_OUTSIDE = {"evalsha", "info", "config|resetstat"}


@dataclass(frozen=True, slots=True)
class ScriptCost:
    """What one script costs per task, in us.

    `store_cpu_us` is CPU of the store, with the reading of calls and the append-only file. `script_us` is the
    time that it counts for the script, and `commands` (command -> us, calls) what it counts for the commands
    in it; on a busy machine these two have time in them when others ran. `python_us` is CPU of this process,
    `wall_us` the time that passed. `round_trips` are script calls, `written_bytes` what the append-only file
    grew by.
    """

    name: str
    tasks_per_call: int
    store_cpu_us: float
    script_us: float
    python_us: float
    wall_us: float
    round_trips: float
    written_bytes: float
    commands: dict[str, tuple[float, float]] = field(repr=False)

    @property
    def commands_us(self) -> float:
        """Time in the commands of the script."""
        return sum(us for us, _ in self.commands.values())

    @property
    def lua_us(self) -> float:
        """Time in the script itself, and in the calls of its commands."""
        return self.script_us - self.commands_us


@dataclass(frozen=True, slots=True)
class Stores:
    """The ports on a store that was started for this, with a project in it; `partition` is the project's."""

    pid: int
    client: Commands
    tasks: RedisTaskStore
    execution: RedisExecutionStore
    partition: int


@contextlib.asynccontextmanager
async def stores(directory: Path) -> AsyncIterator[Stores]:
    """Start a store in a directory."""
    async with EmbeddedValkey(directory) as embedded, opened(embedded.url, embedded.pid) as ports:
        yield ports


@contextlib.asynccontextmanager
async def opened(url: str, pid: int = 0) -> AsyncIterator[Stores]:
    """Open an empty store; `pid` is needed to measure its CPU."""
    settings = StoreSettings()
    partitions = settings.partitions
    async with StoreAddress(url, timeout_ms=60_000).connect() as client:
        await initialise(client, partitions, samples.KEYRING)
        runner, vault = ScriptRunner(client, settings), Vault(samples.KEYRING)
        projects = RedisProjectStore(client, runner, partitions, _QUEUE_LIMIT, vault)
        await projects.create("bench@example.com", "key", b"digest", samples.SIGNING_SECRET, PROJECT)
        yield Stores(
            pid,
            client,
            RedisTaskStore(runner, settings, vault),
            RedisExecutionStore(runner, settings, StoreClock(), vault, KeyRegistry(client)),
            keys.partition_of(PROJECT, partitions),
        )


async def measure(directory: Path, tasks: int, sizes: Sequence[int]) -> list[ScriptCost]:
    """Subscribe, claim and report `tasks` tasks, so many in a call, and return what each script cost."""
    costs = []
    async with stores(directory) as opened:
        for size in sizes:
            await _measure_size(opened, tasks, size)  # to warm up
            costs += await _measure_size(opened, tasks, size)
    return costs


async def _measure_size(opened: Stores, tasks: int, size: int) -> list[ScriptCost]:
    calls = tasks // size
    names = [secrets.token_hex(13) for _ in range(calls * size)]
    new = [NewTask(_due_at_once(name)) for name in names]
    claims: list[Claim] = []

    async def subscribe(call: int) -> None:
        results = await opened.tasks.subscribe(PROJECT, new[call * size : (call + 1) * size], _QUEUE_LIMIT)
        assert not any(isinstance(result, KuueriError) for result in results)

    async def claim(call: int) -> None:
        (batch,) = await opened.execution.claim({opened.partition: size}, "bench", _LEASE_MS)
        assert len(batch.claims) == size
        claims.extend(batch.claims)

    async def report(call: int) -> None:
        reports = [
            Report(taken.lease, samples.SUCCESS, Decision(Trigger.COMPLETE))
            for taken in claims[call * size : (call + 1) * size]
        ]
        assert all(await opened.execution.report(reports))

    return [await _cost(opened, step.__name__, step, calls, size) for step in (subscribe, claim, report)]


def _due_at_once(name: str) -> TaskSpec:
    return dataclasses.replace(samples.spec(), task_id=name, schedule=Schedule())


async def _cost(
    opened: Stores, name: str, step: Callable[[int], Awaitable[None]], calls: int, size: int
) -> ScriptCost:
    await opened.client.config_resetstat()
    store_cpu = procfs.cpu_s([opened.pid])
    file_bytes = await _file_bytes(opened)
    wall, cpu = time.perf_counter(), time.process_time()
    for call in range(calls):
        await step(call)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    store_cpu = procfs.cpu_s([opened.pid]) - store_cpu
    stats = {
        key.removeprefix("cmdstat_"): value
        for key, value in (await opened.client.info("commandstats")).items()
    }
    tasks = calls * size
    return ScriptCost(
        name=name,
        tasks_per_call=size,
        store_cpu_us=store_cpu * 1e6 / tasks,
        script_us=stats["evalsha"]["usec"] / tasks,
        python_us=cpu * 1e6 / tasks,
        wall_us=wall * 1e6 / tasks,
        round_trips=stats["evalsha"]["calls"] / tasks,
        written_bytes=(await _file_bytes(opened) - file_bytes) / tasks,
        commands={
            command: (stat["usec"] / tasks, stat["calls"] / tasks)
            for command, stat in sorted(stats.items(), key=lambda item: -item[1]["usec"])
            if command not in _OUTSIDE
        },
    )


async def _file_bytes(opened: Stores) -> int:
    state = await opened.client.info("persistence")
    return int(state["aof_current_size"]) + int(state["aof_buffer_length"])
