"""`idle`: what waiting costs."""

import asyncio

from benchmarks.harness import procfs
from benchmarks.harness.load import WAIT_MS
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE, on_workers

_TASKS = 100_000
_WORKERS = 2
_WINDOW_S = 20.0
#: For what the last calls have left to do.
_SETTLE_S = 2.0


async def _run(options: Options) -> Values:
    tasks = options.tasks or _TASKS
    async with staged(on_workers(options, _WORKERS)) as stage:
        server, store = stage.server, stage.server.store
        await asyncio.sleep(_SETTLE_S)
        memory_before = store.used_memory()
        await stage.subscribe([now_ms() + WAIT_MS] * tasks)
        await asyncio.sleep(_SETTLE_S)
        memory = store.used_memory() - memory_before
        await store.snapshot()
        await asyncio.sleep(_SETTLE_S)
        switches_before = procfs.switches(server.pids())
        meter = stage.meter()
        await asyncio.sleep(options.seconds or _WINDOW_S)
        usage = meter.stop()
        switches = procfs.switches(server.pids()) - switches_before
        server_rss = procfs.rss_bytes(server.pids())
        store_rss = procfs.rss_bytes([store.pid])
    return {
        "server_cpu": usage.of_a_core_percent(usage.server_s),
        "store_cpu": usage.of_a_core_percent(usage.store_s),
        "wakeups": switches / usage.elapsed_s,
        "server_rss": server_rss / 1e6,
        "store_rss": store_rss / 1e6,
        "store_bytes": memory / tasks,
        "elsewhere": usage.elsewhere_percent,
    }


SCENARIO = Scenario(
    "idle",
    f"{_TASKS:,} tasks that wait for an hour, on {_WORKERS} workers, looked at for {_WINDOW_S:g} s",
    (
        Figure("server_cpu", "% of a core", "CPU of the server while nothing is due and nobody calls.", 2),
        Figure("store_cpu", "% of a core", "CPU of the store meanwhile.", 2),
        Figure("wakeups", "1/s", "How often a thread of the server woke up meanwhile.", 1),
        Figure("server_rss", "MB", "Resident memory of the server.", 1),
        Figure("store_rss", "MB", "Resident memory of the store.", 1),
        Figure(
            "store_bytes",
            "bytes/task",
            "Growth of the store's `used_memory` by the tasks, over their number. A task has an id of 26 "
            "characters, one header and 200 bytes of body.",
        ),
        ELSEWHERE_FIGURE,
    ),
    _run,
)
