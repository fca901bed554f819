"""`scale`: what the number of waiting tasks changes."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from benchmarks.harness import procfs, workload
from benchmarks.harness.client import connected
from benchmarks.harness.load import WAIT_MS, Load, call
from benchmarks.harness.server import serving
from benchmarks.harness.stage import Stage, now_ms, opened, prepared
from benchmarks.model import BenchmarkFailed, Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE
from benchmarks.statistics import percentile, spread_evenly
from kuueri_grpc.pb import task_service_pb2

_TASKS = 1_000_000
_FEW = 1_000
_FILL = Load(clients=2, connections=1, in_flight=4)
#: Tasks of one order to the load generator, which is bounded in time.
_FILL_STEP = 50_000
_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done to measure: calls one by one, tasks spread over a span, tasks due at one instant."""

    calls: int = 3_000
    spread: int = 1_000
    spread_ms: int = 10_000
    burst: int = 5_000
    lead_ms: int = 6_000


_EFFORT = Effort()


async def _run(options: Options) -> Values:
    many = options.tasks or _TASKS
    async with prepared(options) as (directory, target):
        async with opened(options, directory, target) as stage:
            token = stage.client.token
            waiting = await fill(stage, _FEW)
            few = await measured(stage, waiting, _EFFORT)
            few["rss"] = procfs.rss_bytes(stage.server.pids()) / 1e6

            few_bytes = stage.server.store.used_memory()
            meter = stage.meter()
            waiting += await fill(stage, many - _FEW)
            filling = meter.stop()
            filled_bytes = stage.server.store.used_memory() - few_bytes
            # A copy of the data may be written meanwhile, by a process that takes a core.
            await stage.server.store.snapshot()
            await asyncio.sleep(_SETTLE_S)
            lot = await measured(stage, waiting, _EFFORT)
            lot["rss"] = procfs.rss_bytes(stage.server.pids()) / 1e6
        start = time.monotonic()
        async with serving(options, directory) as again, connected(again.address, token) as client:
            ready_s = time.monotonic() - start
            kept = await client.live_tasks()
            restarted_rss = procfs.rss_bytes(again.pids()) / 1e6
    # More than that: what Subscribe was measured with waits as well.
    if kept < many:
        raise BenchmarkFailed(f"{kept:,} tasks of {many:,} were there after a restart")
    return {
        **{f"few_{name}": value for name, value in few.items()},
        **{f"many_{name}": value for name, value in lot.items()},
        **{f"{name}_ratio": lot[name] / few[name] for name in _COMPARED},
        "fill_rate": (many - _FEW) / filling.elapsed_s,
        "store_bytes": filled_bytes / (many - _FEW),
        "ready": ready_s,
        "restarted_rss": restarted_rss,
        "elsewhere": filling.elsewhere_percent,
    }


async def fill(stage: Stage, tasks: int) -> list[str]:
    """Have tasks wait for an hour; return their ids."""
    ids: list[str] = []
    for start in range(0, tasks, _FILL_STEP):
        prefix, size = workload.new_prefix(), min(_FILL_STEP, tasks - start)
        await call(stage, "BatchSubscribe", prefix, size, now_ms() + WAIT_MS, _FILL)
        ids += (workload.task_id(prefix, index) for index in range(size))
    return ids


async def measured(stage: Stage, waiting: list[str], effort: Effort) -> Values:
    """Measure what a caller and a target see now."""
    client, prefix, due_ms = stage.client, workload.new_prefix(), now_ms() + WAIT_MS
    subscriptions = (
        task_service_pb2.SubscribeRequest(task=workload.build_task(stage.target.url, prefix, index, due_ms))
        for index in range(effort.calls)
    )
    subscribe_ms = await _one_by_one(client.tasks.Subscribe, subscriptions, stage)
    looks = (
        task_service_pb2.GetTaskRequest(task_id=name)
        for name in random.sample(waiting, min(effort.calls, _FEW))
    )
    get_ms = await _one_by_one(client.tasks.GetTask, looks, stage)

    others = await client.live_tasks()
    await stage.target.mark()
    seen = await stage.delivered(
        await stage.subscribe(spread_evenly(effort.spread, now_ms() + effort.lead_ms, effort.spread_ms)),
        others,
    )
    await stage.target.mark()
    due = await stage.subscribe([now_ms() + effort.lead_ms] * effort.burst)
    burst = await stage.delivered(due, others)
    if seen.lost or burst.lost:
        raise BenchmarkFailed(f"{seen.lost + burst.lost} tasks did not arrive")
    return {
        "subscribe_p50": percentile(subscribe_ms, 50),
        "subscribe_p99": percentile(subscribe_ms, 99),
        "get_p50": percentile(get_ms, 50),
        "get_p99": percentile(get_ms, 99),
        "late_p50": seen.lateness(50),
        "late_p99": seen.lateness(99),
        "drain_rate": burst.arrived / burst.drain_s,
    }


async def _one_by_one(
    method: Callable[..., Awaitable[object]], requests: Iterable[object], stage: Stage
) -> list[float]:
    """Make one call after the other; return how long each took, in ms, ascending."""
    took_ms = []
    for request in requests:
        start = time.perf_counter()
        await method(request, metadata=stage.client.metadata)
        took_ms.append((time.perf_counter() - start) * 1_000)
    return sorted(took_ms)


_COMPARED = ("subscribe_p50", "get_p50", "late_p50", "drain_rate")


def _figures(name: str, when: str) -> tuple[Figure, ...]:
    return (
        Figure(
            f"{name}_subscribe_p50",
            "ms",
            f"Latency of Subscribe, one call after the other, {when}. Median.",
            2,
        ),
        Figure(f"{name}_subscribe_p99", "ms", "99th percentile.", 2),
        Figure(f"{name}_get_p50", "ms", f"Latency of GetTask of any of them, {when}. Median.", 2),
        Figure(f"{name}_get_p99", "ms", "99th percentile.", 2),
        Figure(f"{name}_late_p50", "ms", f"Lateness at the target, 100 tasks a second, {when}. Median."),
        Figure(f"{name}_late_p99", "ms", "99th percentile."),
        Figure(
            f"{name}_drain_rate", "tasks/s", f"Drain of {_EFFORT.burst:,} tasks due at one instant, {when}."
        ),
        Figure(f"{name}_rss", "MB", f"Resident memory of the server, {when}.", 1),
    )


SCENARIO = Scenario(
    "scale",
    f"{_FEW:,} tasks that wait for an hour, then {_TASKS:,}, of one project",
    (
        *_figures("few", f"with {_FEW:,} waiting"),
        *_figures("many", "with all of them waiting"),
        *(Figure(f"{name}_ratio", "x", f"`many_{name}` over `few_{name}`.", 2) for name in _COMPARED),
        Figure("fill_rate", "tasks/s", "Tasks accepted on the way there, in batches."),
        Figure("store_bytes", "bytes/task", "Growth of the store's `used_memory`, over the tasks that wait."),
        Figure("ready", "s", "From the start of a server on this data until it serves.", 1),
        Figure("restarted_rss", "MB", "Resident memory of the server then.", 1),
        ELSEWHERE_FIGURE,
    ),
    _run,
    limit_s=900.0,
)
