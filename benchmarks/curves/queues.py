"""`queues`: the same tasks in one queue, and in ten thousand."""

from collections.abc import AsyncIterator, Sequence

from benchmarks.curves.model import Curve, drain_figure
from benchmarks.harness import workload
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import BenchmarkFailed, Options, Values

_TASKS = 10_000
_LEAD_MS = 5_000


async def _run(options: Options, points: Sequence[int], runs: int) -> AsyncIterator[tuple[int, Values]]:
    async with staged(options) as stage:
        for point in points:
            for _ in range(runs):
                await stage.target.mark()
                requests = list(
                    workload.batches(stage.target.url, workload.new_prefix(), [now_ms() + _LEAD_MS] * _TASKS)
                )
                tasks = [task for request in requests for task in request.tasks]
                for place, task in enumerate(tasks):
                    task.queue = f"queue-{place % point}"
                seen = await stage.delivered(await stage.client.subscribe_batches(requests))
                if seen.lost:
                    raise BenchmarkFailed(f"{seen.lost} tasks of {point:,} queues did not arrive")
                yield point, {"drain_rate": seen.arrived / seen.drain_s}


CURVE = Curve(
    "queues",
    "queues",
    f"{_TASKS:,} tasks of one project, spread evenly over queues",
    (1, 100, 1_000, 10_000),
    (drain_figure(f"{_TASKS:,} tasks"),),
    _run,
)
