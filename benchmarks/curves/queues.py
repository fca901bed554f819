"""`queues`: the same tasks in one queue, and in ten thousand."""

from collections.abc import AsyncIterator, Sequence

from benchmarks.curves.model import Curve, drain_figure
from benchmarks.harness import workload
from benchmarks.harness.stage import Stage, now_ms, staged
from benchmarks.model import BenchmarkFailed, Options, Values

_TASKS = 10_000
_LEAD_MS = 5_000


async def _run(options: Options, points: Sequence[int], runs: int) -> AsyncIterator[tuple[int, Values]]:
    for point in points:
        for _ in range(runs):
            # A new server each time: one that has sent more is slower, and the last point would pay for it.
            async with staged(options) as stage:
                yield point, {"drain_rate": await _drain_rate(stage, point)}


async def _drain_rate(stage: Stage, queues: int) -> float:
    await stage.target.mark()
    requests = list(workload.batches(stage.target.url, workload.new_prefix(), [now_ms() + _LEAD_MS] * _TASKS))
    tasks = [task for request in requests for task in request.tasks]
    for place, task in enumerate(tasks):
        task.queue = f"queue-{place % queues}"
    seen = await stage.delivered(await stage.client.subscribe_batches(requests))
    if seen.lost:
        raise BenchmarkFailed(f"{seen.lost} tasks of {queues:,} queues did not arrive")
    return seen.arrived / seen.drain_s


CURVE = Curve(
    "queues",
    "queues",
    f"{_TASKS:,} tasks of one project, spread evenly over queues",
    (1, 100, 1_000, 10_000),
    (drain_figure(f"{_TASKS:,} tasks"),),
    _run,
)
