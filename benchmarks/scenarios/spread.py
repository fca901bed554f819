"""`spread`: how late tasks are when the server has time for each."""

from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import Figure, Options, Scenario, Values
from benchmarks.scenarios.common import (
    DELIVERY_FIGURES,
    ELSEWHERE_FIGURE,
    delivery_values,
    lateness_figures,
    lateness_values,
)
from benchmarks.statistics import spread_evenly

_TASKS = 3_000
_SPAN_S = 30.0
_LEAD_MS = 3_000


async def _run(options: Options) -> Values:
    span_ms = round(1_000 * (options.seconds or _SPAN_S))
    async with staged(options) as stage:
        meter = stage.meter()
        dues_ms = spread_evenly(options.tasks or _TASKS, now_ms() + _LEAD_MS, span_ms)
        seen = await stage.delivered(await stage.subscribe(dues_ms))
        usage = meter.stop()
    return {
        **delivery_values(seen),
        **lateness_values(seen),
        "server_cpu": usage.of_a_core_percent(usage.server_s),
        "store_cpu": usage.of_a_core_percent(usage.store_s),
        "elsewhere": usage.elsewhere_percent,
    }


SCENARIO = Scenario(
    "spread",
    f"{_TASKS:,} tasks due evenly over {_SPAN_S:g} s, subscribed {_LEAD_MS // 1_000} s ahead",
    (
        *DELIVERY_FIGURES,
        *lateness_figures("From a task's due time to its first arrival."),
        Figure("server_cpu", "% of a core", "CPU of the server from the first Subscribe to the last end.", 1),
        Figure("store_cpu", "% of a core", "CPU of the store meanwhile.", 1),
        ELSEWHERE_FIGURE,
    ),
    _run,
)
