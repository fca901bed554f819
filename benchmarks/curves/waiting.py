"""`waiting`: from 1,000 waiting tasks to a million, of one project."""

from collections.abc import AsyncIterator, Sequence

from benchmarks.curves.model import Curve, drain_figure
from benchmarks.harness import procfs
from benchmarks.harness.stage import staged
from benchmarks.model import Figure, Options, Values
from benchmarks.scenarios.scale import Effort, fill, measured

_EFFORT = Effort(calls=500, spread=500, spread_ms=5_000, burst=5_000, lead_ms=2_500)


async def _run(options: Options, points: Sequence[int], runs: int) -> AsyncIterator[tuple[int, Values]]:
    async with staged(options) as stage:
        waiting: list[str] = []
        for point in points:
            bytes_before, added = stage.server.store.used_memory(), point - len(waiting)
            waiting += await fill(stage, added)
            store_bytes = (stage.server.store.used_memory() - bytes_before) / added
            # A copy of the data may be written meanwhile, by a process that takes a core.
            await stage.server.store.snapshot()
            for _ in range(runs):
                values = await measured(stage, waiting, _EFFORT)
                values["rss"] = procfs.rss_bytes(stage.server.pids()) / 1e6
                values["store_bytes"] = store_bytes
                yield point, {figure.key: values[figure.key] for figure in CURVE.figures}


CURVE = Curve(
    "waiting",
    "tasks waiting",
    "Tasks that wait for an hour, of one project, while others are subscribed, read and run",
    (1_000, 10_000, 100_000, 1_000_000),
    (
        drain_figure(f"{_EFFORT.burst:,} more tasks"),
        Figure("late_p99", "ms", "Lateness at the target, 100 tasks a second. 99th percentile."),
        Figure("subscribe_p50", "ms", "Latency of Subscribe, one call after the other. Median.", 2),
        Figure("get_p50", "ms", "Latency of GetTask of any of them. Median.", 2),
        Figure("rss", "MB", "Resident memory of the server."),
        Figure(
            "store_bytes",
            "bytes/task",
            "Growth of the store's `used_memory` by the tasks since the last point.",
        ),
    ),
    _run,
    limit_s=900.0,
)
