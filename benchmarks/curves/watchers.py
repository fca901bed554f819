"""`watchers`: as many tasks, and more and more who watch them."""

import dataclasses
from collections.abc import AsyncIterator, Sequence

from benchmarks.curves.model import Curve
from benchmarks.harness.stage import staged
from benchmarks.model import Options, Values
from benchmarks.scenarios import watch
from benchmarks.scenarios.common import on_workers

_TASKS = 1_000
_SPAN_S = 10.0


async def _run(options: Options, points: Sequence[int], runs: int) -> AsyncIterator[tuple[int, Values]]:
    options = on_workers(dataclasses.replace(options, tasks=_TASKS, seconds=_SPAN_S), 1)
    for point in points:
        for _ in range(runs):
            # A new server each time: memory that the watchers before have left would hide theirs.
            async with staged(options) as stage:
                values = await watch.measured(stage, options, point)
            yield point, {figure.key: values[figure.key] for figure in CURVE.figures}


_KEYS = ("heard_p50", "heard_p99", "watcher_rss")
CURVE = Curve(
    "watchers",
    "watchers",
    f"Watchers of a task each, on one server process; {_TASKS:,} tasks due evenly over {_SPAN_S:g} s in all",
    (1, 10, 100, 1_000),
    tuple(figure for figure in watch.SCENARIO.figures if figure.key in _KEYS),
    _run,
)
