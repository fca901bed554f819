"""`workers`: from one worker process to four."""

from collections.abc import AsyncIterator, Sequence

from benchmarks.curves.model import Curve, drain_figure
from benchmarks.harness import procfs, workload
from benchmarks.harness.load import WAIT_MS, Load, call
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import BenchmarkFailed, Figure, Options, Values
from benchmarks.scenarios.common import on_workers

_CALLS = 8_000
_TASKS = 10_000
_LEAD_MS = 4_000
_LOAD = Load()


async def _run(options: Options, points: Sequence[int], runs: int) -> AsyncIterator[tuple[int, Values]]:
    for point in points:
        for _ in range(runs):
            async with staged(on_workers(options, point)) as stage:
                prefix = workload.new_prefix()
                accepted = await call(stage, "Subscribe", prefix, _CALLS, now_ms() + WAIT_MS, _LOAD)
                others = await stage.client.live_tasks()
                await stage.target.mark()
                due_ms = await stage.subscribe([now_ms() + _LEAD_MS] * _TASKS)
                seen = await stage.delivered(due_ms, others)
                if seen.lost:
                    raise BenchmarkFailed(f"{seen.lost} tasks did not arrive on {point} workers")
                yield (
                    point,
                    {
                        "drain_rate": seen.arrived / seen.drain_s,
                        "subscribe": accepted.tasks_per_s,
                        "rss": procfs.rss_bytes(stage.server.pids()) / 1e6,
                    },
                )


CURVE = Curve(
    "workers",
    "worker processes",
    f"{_CALLS:,} tasks by Subscribe, {_LOAD}; then {_TASKS:,} due at one instant. "
    "Store, target and clients share the machine",
    (1, 2, 4),
    (
        drain_figure(f"{_TASKS:,} tasks"),
        Figure("subscribe", "tasks/s", "Tasks accepted by Subscribe."),
        Figure("rss", "MB", "Resident memory of the server's processes."),
    ),
    _run,
)
