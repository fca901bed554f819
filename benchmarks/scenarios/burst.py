"""`burst`: how fast tasks are sent that are all due at once."""

import asyncio

from benchmarks.harness import procfs
from benchmarks.harness.profile import profiled
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import BenchmarkFailed, Figure, Options, Scenario, Values
from benchmarks.scenarios.common import DELIVERY_FIGURES, ELSEWHERE_FIGURE, delivery_values

_TASKS = 10_000
#: Tasks are subscribed at this rate at least, or there is no burst.
_SLOWEST_SUBSCRIBE_PER_S = 1_000
_LEAD_S = 4.0
#: The meter starts this long before the tasks are due: nothing but waiting goes on then.
_METER_LEAD_S = 0.3


async def _run(options: Options) -> Values:
    tasks = options.tasks or _TASKS
    async with staged(options) as stage:
        due_ms = now_ms() + round(1_000 * (_LEAD_S + tasks / _SLOWEST_SUBSCRIBE_PER_S))
        dues_ms = await stage.subscribe([due_ms] * tasks)
        slack_s = (due_ms - now_ms()) / 1_000 - _METER_LEAD_S
        if slack_s < 0:
            raise BenchmarkFailed(
                "no burst: tasks were due before the last was subscribed; is the machine busy?"
            )
        async with profiled(options, stage.server.pid, stage.directory):
            await asyncio.sleep((due_ms - now_ms()) / 1_000 - _METER_LEAD_S)
            meter = stage.meter()
            seen = await stage.delivered(dues_ms)
            usage = meter.stop()
        rss_bytes = procfs.rss_bytes(stage.server.pids())
    return {
        **delivery_values(seen),
        "drain": seen.drain_s,
        "drain_rate": seen.arrived / seen.drain_s,
        "server_cpu": usage.server_s * 1e6 / seen.arrived,
        "store_cpu": usage.store_s * 1e6 / seen.arrived,
        "target_cpu": usage.target_s * 1e6 / seen.arrived,
        "server_rss": rss_bytes / 1e6,
        "elsewhere": usage.elsewhere_percent,
    }


SCENARIO = Scenario(
    "burst",
    f"{_TASKS:,} tasks due at one instant, subscribed before it in batches",
    (
        *DELIVERY_FIGURES,
        Figure("drain", "s", "From the due time to the arrival of the last task.", 3),
        Figure("drain_rate", "tasks/s", "Tasks that arrived, over that time."),
        Figure("server_cpu", "us/task", "CPU of the server from the due time to the last end."),
        Figure("store_cpu", "us/task", "CPU of the store meanwhile."),
        Figure("target_cpu", "us/task", "CPU of the target meanwhile: what the measurement itself takes."),
        Figure("server_rss", "MB", "Resident memory of the server after the burst.", 1),
        ELSEWHERE_FIGURE,
    ),
    _run,
)
