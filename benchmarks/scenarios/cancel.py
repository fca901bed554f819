"""`cancel`: how fast waiting tasks are canceled."""

from benchmarks.harness import workload
from benchmarks.harness.load import WAIT_MS, Load, call
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import BenchmarkFailed, Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE

_TASKS = 10_000
_LOAD = Load()


async def _run(options: Options) -> Values:
    tasks = options.tasks or _TASKS
    async with staged(options) as stage:
        due_ms = now_ms() + WAIT_MS
        prefix = workload.new_prefix()
        await stage.client.subscribe(stage.target.url, prefix, [due_ms] * tasks)
        result = await call(stage, "Cancel", prefix, tasks, due_ms, _LOAD)
        if live := await stage.client.live_tasks():
            raise BenchmarkFailed(f"{live} of {tasks} tasks still live after they were canceled")
    usage = result.usage
    return {
        "cancel": result.tasks_per_s,
        "cancel_p50": result.latency_ms(50),
        "cancel_p99": result.latency_ms(99),
        "server_cpu": result.per_task_us(usage.server_s),
        "store_cpu": result.per_task_us(usage.store_s),
        "elsewhere": usage.elsewhere_percent,
    }


SCENARIO = Scenario(
    "cancel",
    f"Cancel of {_TASKS:,} waiting tasks, {_LOAD}",
    (
        Figure("cancel", "calls/s", "Tasks canceled."),
        Figure("cancel_p50", "ms", "Latency of Cancel at the client, under this load. Median.", 1),
        Figure("cancel_p99", "ms", "99th percentile.", 1),
        Figure("server_cpu", "us/task", "CPU of the server."),
        Figure("store_cpu", "us/task", "CPU of the store."),
        ELSEWHERE_FIGURE,
    ),
    _run,
)
