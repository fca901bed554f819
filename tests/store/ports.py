"""One real store, its ports as the application wires them, and the few calls that every test makes."""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import HttpTarget, Task, TaskSpec
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.ports import Claim, ClaimBatch, Lease, NewTask, ProjectLane, Report, Room
from kuueri_grpc.store import keys
from kuueri_grpc.store.clock import StoreClock
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.connection import StoreAddress, initialise
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from kuueri_grpc.store.tasks import RedisTaskStore
from kuueri_grpc.store.vault import Vault
from tests.keys import KEYRING, VAULT
from tests.store import raw

PROJECT = "project0000000000"
HERE = "here"
QUEUE_LIMIT = 1_000_000
#: So long that nothing falls due and no lease runs out while a test is going on.
HOUR_MS = 3_600_000

#: The store ends a blocking call by its own tick, up to this much too late.
_STORE_WAITS_MS = 100

SUCCESS = answered(200, latency_ms=5)
ERROR = answered(500, latency_ms=7)


def spec(task_id: str, **more: object) -> TaskSpec:
    return TaskSpec(task_id, HttpTarget("https://target.example/hook"), **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ports:
    """The store's ports on the store at `url`, with one project in it that has room for every task."""

    url: str
    client: Commands
    settings: StoreSettings
    runner: ScriptRunner
    clock: StoreClock
    tasks: RedisTaskStore
    execution: RedisExecutionStore
    projects: RedisProjectStore

    @property
    def task_parts(self) -> tuple[ScriptRunner, StoreSettings, Vault]:
        """What a `RedisTaskStore` like `tasks` is made of."""
        return self.runner, self.settings, VAULT

    @property
    def execution_parts(self) -> tuple[ScriptRunner, StoreSettings, StoreClock, Vault, KeyRegistry]:
        """What a `RedisExecutionStore` like `execution` is made of."""
        return self.runner, self.settings, self.clock, VAULT, KeyRegistry(self.client)

    @property
    def project_parts(self) -> tuple[Commands, ScriptRunner, int, int, Vault]:
        """What a `RedisProjectStore` like `projects` is made of."""
        return self.client, self.runner, self.settings.partitions, QUEUE_LIMIT, VAULT

    async def now_ms(self) -> int:
        seconds, microseconds = await self.client.time()
        return seconds * 1_000 + microseconds // 1_000

    async def until(self, instant_ms: int) -> None:
        """Return when the store's clock has reached an instant; for long waits the store does the waiting."""
        while (left_ms := instant_ms - await self.now_ms()) > 0:
            if left_ms > _STORE_WAITS_MS:
                await self.client.blpop(["kuueri:nothing-comes-here"], timeout=left_ms / 1_000)

    async def create_project(self, project_id: str = PROJECT) -> str:
        await self.projects.create(
            f"{project_id}@example.com", f"{project_id}key1", b"\x01" * 32, "whsec_first", project_id
        )
        return project_id

    async def task_in_queue(self, project_id: str = PROJECT) -> int:
        return (await self.projects.get(project_id)).task_in_queue

    async def subscribe(self, *specs: TaskSpec, project_id: str = PROJECT) -> list[Task]:
        """Subscribe tasks, none of which may be refused."""
        tasks = []
        for result in await self.try_subscribe(*(NewTask(spec) for spec in specs), project_id=project_id):
            if isinstance(result, KuueriError):
                raise result
            tasks.append(result)
        return tasks

    async def try_subscribe(
        self, *tasks: NewTask, limit: int = QUEUE_LIMIT, project_id: str = PROJECT
    ) -> list[Task | KuueriError]:
        return await self.tasks.subscribe(project_id, tasks, limit)

    async def look(
        self,
        limit: int = 100,
        *,
        instance: str = HERE,
        lease_ms: int = HOUR_MS,
        project_id: str = PROJECT,
        full: Collection[ProjectLane] = (),
        suspects: bool = True,
        size: int | None = None,
        larger: bool = False,
        passed: int | None = None,
        **more: Any,
    ) -> ClaimBatch:
        """Claim from the partition of a project; one suspect at the most. `more`: see `Room`."""
        partition = keys.partition_of(project_id, self.settings.partitions)
        room = Room(
            full=full,
            suspect_from=partition if suspects else None,
            sizes={} if size is None else {partition: size},
            larger_from=partition if larger else None,
            passed={} if passed is None else {partition: passed},
            **more,
        )
        (batch,) = await self.execution.claim({partition: limit}, instance, lease_ms, room)
        return batch

    async def claim(
        self,
        limit: int = 100,
        *,
        instance: str = HERE,
        lease_ms: int = HOUR_MS,
        project_id: str = PROJECT,
    ) -> Sequence[Claim]:
        batch = await self.look(limit, instance=instance, lease_ms=lease_ms, project_id=project_id)
        return batch.claims

    async def take(self, task_id: str, lease_ms: int = HOUR_MS) -> Claim:
        """Claim the one task that is due."""
        (claim,) = await self.claim(lease_ms=lease_ms)
        assert claim.task_id == task_id
        return claim

    async def report(self, lease: Lease, trigger: Trigger, wait_ms: int = HOUR_MS) -> bool:
        """Report an attempt with an outcome that suits what is to follow; retry or repeat after `wait_ms`."""
        (applied,) = await self.execution.report([report(lease, trigger, wait_ms)])
        assert applied is not None
        return applied

    async def events(self, task_id: str, project_id: str = PROJECT) -> list[EventType]:
        kept = await self.tasks.timeline(project_id, task_id, 0, 10_000)
        return [event.type for event in kept.events]

    async def everywhere(self, *command: str) -> None:
        """Run a command that has no key on every server of the store."""
        await everywhere(self.client, *command)

    async def run_in(self, database: int, script: str, names: Sequence[str], *arguments: Any) -> None:
        """Run a script behind the server's back, in a database; on a cluster in the only one."""
        select = f"redis.call('SELECT', {database}) " if self.client.one_server else ""
        await self.client.eval(select + script, len(names), *names, *arguments)

    def raw(self) -> raw.RawStore:
        return raw.read(self.url)


async def everywhere(client: Commands, *command: str) -> None:
    """See `Ports.everywhere`."""
    if isinstance(client, ClusterClient):
        await client._on_primaries(*command)
    else:
        await client.execute_command(*command)


def report(lease: Lease, trigger: Trigger, wait_ms: int = HOUR_MS) -> Report:
    outcome: Outcome = SUCCESS if trigger in (Trigger.COMPLETE, Trigger.REPEAT) else ERROR
    waits = trigger in (Trigger.RETRY, Trigger.REPEAT)
    return Report(lease, outcome, Decision(trigger, delay_ms=wait_ms if waits else None))


@contextlib.asynccontextmanager
async def connected(url: str, settings: StoreSettings) -> AsyncIterator[Ports]:
    """Open the ports of a store; close them at the end."""
    async with StoreAddress(url, timeout_ms=settings.call_timeout_ms).connect() as client:
        await initialise(client, settings.partitions, KEYRING)
        runner, clock = ScriptRunner(client, settings), StoreClock()
        yield Ports(
            url,
            client,
            settings,
            runner,
            clock,
            RedisTaskStore(runner, settings, VAULT),
            RedisExecutionStore(runner, settings, clock, VAULT, KeyRegistry(client)),
            RedisProjectStore(client, runner, settings.partitions, QUEUE_LIMIT, VAULT),
        )


@contextlib.asynccontextmanager
async def signal_bus(url: str, settings: StoreSettings, instance: str) -> AsyncIterator[RedisSignalBus]:
    """Open a signal bus; close its connection at the end."""
    async with StoreAddress(url).connect_for_signals() as client:
        yield RedisSignalBus(client, settings.partitions, instance)
