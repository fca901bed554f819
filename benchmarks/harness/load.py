"""Calls from several client processes at once."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.harness import workload
from benchmarks.harness.children import python_module, running
from benchmarks.harness.stage import Stage
from benchmarks.harness.usage import Usage
from benchmarks.statistics import percentile

Method = Literal["Subscribe", "BatchSubscribe", "Cancel"]

_READY_TIMEOUT_S = 60.0
_RUN_TIMEOUT_S = 120.0
#: For tasks that are not to come due while anybody looks.
WAIT_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Order:
    """What one client process is to do: calls for `tasks` tasks of a set, from the `first` on."""

    address: str
    token: str
    method: Method
    url: str
    prefix: str
    first: int
    tasks: int
    due_ms: int
    in_flight: int
    connections: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client process did. Instants in s since the epoch; latencies of its calls, ascending."""

    begin_s: float
    end_s: float
    cpu_s: float
    latencies_ms: Sequence[float]


@dataclass(frozen=True, slots=True)
class Load:
    """How calls are made: by `clients` processes, over `connections` each, `in_flight` in all."""

    clients: int = 2
    connections: int = 4
    in_flight: int = 64

    def __str__(self) -> str:
        connections = self.clients * self.connections
        return f"{self.in_flight} in flight over {connections} connections of {self.clients} client processes"


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the clients did together. `usage` is of the time from the first call to the last answer."""

    tasks: int
    seconds: float
    clients_cpu_s: float
    latencies_ms: Sequence[float]
    usage: Usage

    @property
    def tasks_per_s(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the latency of a call."""
        return percentile(self.latencies_ms, percent)

    def per_task_us(self, cpu_s: float) -> float:
        """Return CPU time per task."""
        return cpu_s * 1e6 / self.tasks


async def call(
    stage: Stage,
    method: Method,
    prefix: str,
    tasks: int,
    due_ms: int,
    load: Load,
    *,
    address: str | None = None,
) -> LoadResult:
    """Make calls for a set of tasks, each task once; to the server of the stage, or to `address`.

    Raises:
        BenchmarkFailed: a client broke down; a call that fails breaks it down.
    """
    share = -(-tasks // load.clients)
    if method == "BatchSubscribe":
        # Whole batches, so that each call has as many tasks.
        share = -(-share // workload.BATCH) * workload.BATCH
    orders = [
        Order(
            address=address or stage.server.address,
            token=stage.client.token,
            method=method,
            url=stage.target.url,
            prefix=prefix,
            first=first,
            tasks=min(share, tasks - first),
            due_ms=due_ms,
            in_flight=max(1, load.in_flight // load.clients),
            connections=load.connections,
        )
        for first in range(0, tasks, share)
    ]
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                running(f"client{place}", python_module("benchmarks.harness.load_client"), stage.directory)
            )
            for place in range(len(orders))
        ]
        for client, order in zip(clients, orders, strict=True):
            await client.say(json.dumps(dataclasses.asdict(order)))
        for client in clients:
            await client.line(_READY_TIMEOUT_S)
        meter = stage.meter()
        for client in clients:
            await client.say("go")
        documents = await asyncio.gather(*(client.document(_RUN_TIMEOUT_S) for client in clients))
        usage = meter.stop()
    outcomes = [Outcome(**document) for document in documents]
    clients_cpu_s = sum(outcome.cpu_s for outcome in outcomes)
    return LoadResult(
        tasks=tasks,
        seconds=max(outcome.end_s for outcome in outcomes) - min(outcome.begin_s for outcome in outcomes),
        clients_cpu_s=clients_cpu_s,
        latencies_ms=sorted(ms for outcome in outcomes for ms in outcome.latencies_ms),
        # The clients still ran when the meter was read, so it has taken them for others.
        usage=dataclasses.replace(usage, elsewhere_s=max(0.0, usage.elsewhere_s - clients_cpu_s)),
    )
