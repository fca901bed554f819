"""`accept`: how fast tasks are accepted, one by one and in batches."""

from benchmarks.harness import workload
from benchmarks.harness.load import WAIT_MS, Load, LoadResult, call
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE

_TASKS = 20_000
_SINGLE = Load()
_BATCH = Load(clients=2, connections=1, in_flight=4)


async def _run(options: Options) -> Values:
    tasks = options.tasks or _TASKS
    async with staged(options) as stage:
        due_ms = now_ms() + WAIT_MS
        single = await call(stage, "Subscribe", workload.new_prefix(), tasks, due_ms, _SINGLE)
        batch = await call(stage, "BatchSubscribe", workload.new_prefix(), tasks, due_ms, _BATCH)
    return {
        "subscribe": single.tasks_per_s,
        "subscribe_p50": single.latency_ms(50),
        "subscribe_p99": single.latency_ms(99),
        **_cpu("subscribe", single),
        "batch": batch.tasks_per_s,
        "batch_p50": batch.latency_ms(50),
        **_cpu("batch", batch),
        "elsewhere": max(single.usage.elsewhere_percent, batch.usage.elsewhere_percent),
    }


def _cpu(name: str, result: LoadResult) -> Values:
    usage = result.usage
    return {
        f"{name}_server_cpu": result.per_task_us(usage.server_s),
        f"{name}_store_cpu": result.per_task_us(usage.store_s),
        f"{name}_client_cpu": result.per_task_us(result.clients_cpu_s),
        f"{name}_server_cores": usage.server_s / usage.elapsed_s,
    }


def _figures(name: str, call_name: str) -> tuple[Figure, ...]:
    return (
        Figure(f"{name}_server_cpu", "us/task", f"CPU of the server per task of {call_name}."),
        Figure(f"{name}_store_cpu", "us/task", "CPU of the store meanwhile."),
        Figure(f"{name}_client_cpu", "us/task", "CPU of the clients meanwhile; they share the machine."),
        Figure(
            f"{name}_server_cores",
            "cores",
            "Cores that the server kept busy meanwhile. One process has one: near 1 the server is the limit, "
            "well below it something else is.",
            digits=2,
        ),
    )


SCENARIO = Scenario(
    "accept",
    f"{_TASKS:,} tasks by Subscribe, {_SINGLE}; "
    f"then as many by BatchSubscribe of {workload.BATCH:,}, {_BATCH}",
    (
        Figure("subscribe", "tasks/s", "Tasks accepted by Subscribe."),
        Figure("subscribe_p50", "ms", "Latency of Subscribe at the client, under this load. Median.", 1),
        Figure("subscribe_p99", "ms", "99th percentile.", 1),
        *_figures("subscribe", "Subscribe"),
        Figure("batch", "tasks/s", "Tasks accepted by BatchSubscribe."),
        Figure("batch_p50", "ms", "Latency of BatchSubscribe at the client, under this load. Median.", 1),
        *_figures("batch", "BatchSubscribe"),
        ELSEWHERE_FIGURE,
    ),
    _run,
    limit_s=240.0,
)
