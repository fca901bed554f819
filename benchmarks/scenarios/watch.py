"""`watch`: how soon a watcher hears of an event."""

import asyncio
import time
from collections.abc import Sequence

from benchmarks.harness import procfs
from benchmarks.harness.client import Client
from benchmarks.harness.stage import Stage, now_ms, staged
from benchmarks.harness.usage import Usage
from benchmarks.model import BenchmarkFailed, Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE, on_workers
from benchmarks.statistics import percentile, spread_evenly
from kuueri_grpc.pb import task_service_pb2

_WATCHERS = 1_000
_SPAN_S = 20.0
#: The last watcher is in place long before the first task is due.
_LEAD_MS = 8_000
_SETTLE_S = 1.0
#: DISPATCHED, SUCCEEDED, COMPLETED: what follows SUBSCRIBED on the timeline of a task that goes well.
_LAST_SEQUENCE = 4


class _Watcher:
    """Follows one task to its end; notes how long each live event took, in ms."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.took_ms: list[float] = []
        self.sequences: list[int] = []

    async def follow(self, client: Client, task_id: str) -> None:
        request = task_service_pb2.WatchRequest(task_id=task_id)
        async for response in client.tasks.Watch(request, metadata=client.metadata):
            received_ms = time.time_ns() / 1e6
            match response.WhichOneof("message"):
                case "synced":
                    self.synced.set()
                case "event" if self.synced.is_set():
                    self.took_ms.append(received_ms - response.event.create_time.ToMilliseconds())
                    self.sequences.append(response.event.sequence)


async def _run(options: Options) -> Values:
    async with staged(on_workers(options, 1)) as stage:
        return await measured(stage, options, options.tasks or _WATCHERS)


async def measured(stage: Stage, options: Options, count: int) -> Values:
    """Return the figures of so many watchers; there are more tasks than watchers if the options say so."""
    tasks = max(count, options.tasks or 0)
    span_ms = round(1_000 * (options.seconds or _SPAN_S))
    watchers = [_Watcher() for _ in range(count)]
    start_ms = now_ms() + _LEAD_MS
    due_ms = await stage.subscribe(spread_evenly(tasks, start_ms, span_ms))
    try:
        usage, grown_bytes, last_bytes = await _follow(
            stage, watchers, list(due_ms)[:: tasks // count][:count], start_ms
        )
    except ExceptionGroup as failures:
        # The first is the cause; what the others say follows from it.
        raise failures.exceptions[0] from failures
    took_ms = sorted(ms for watcher in watchers for ms in watcher.took_ms)
    expected = list(range(2, _LAST_SEQUENCE + 1))
    return {
        "events": len(took_ms),
        "gaps": sum(watcher.sequences != expected for watcher in watchers),
        "heard_p50": percentile(took_ms, 50),
        "heard_p99": percentile(took_ms, 99),
        "heard_max": took_ms[-1],
        "server_cpu": usage.server_s * 1e6 / len(took_ms),
        "watcher_rss": grown_bytes / 1024 / count,
        "watcher_rss_next": last_bytes / 1024 / (count - count // 2),
        "elsewhere": usage.elsewhere_percent,
    }


async def _follow(
    stage: Stage, watchers: list[_Watcher], task_ids: list[str], start_ms: int
) -> tuple[Usage, int, int]:
    """Follow each task to its end.

    Return the usage once all were in place, what they weigh, and what the latter half of them does (bytes).
    """
    await asyncio.sleep(_SETTLE_S)
    before = procfs.rss_bytes(stage.server.pids())
    async with asyncio.TaskGroup() as group:

        async def place(pairs: Sequence[tuple[_Watcher, str]]) -> int:
            for watcher, task_id in pairs:
                group.create_task(watcher.follow(stage.client, task_id))
            await asyncio.gather(*(watcher.synced.wait() for watcher, _ in pairs))
            return procfs.rss_bytes(stage.server.pids())

        pairs = list(zip(watchers, task_ids, strict=True))
        half = len(pairs) // 2
        halfway = await place(pairs[:half])
        after = await place(pairs[half:])
        if now_ms() > start_ms:
            raise BenchmarkFailed("the first task was due before the last watcher was in place")
        meter = stage.meter()
    return meter.stop(), after - before, after - halfway


SCENARIO = Scenario(
    "watch",
    f"{_WATCHERS:,} watchers of a task each, on one server process; tasks due evenly over {_SPAN_S:g} s",
    (
        Figure("events", "events", "Events that the watchers received live."),
        Figure("gaps", "watchers", "Watchers that did not receive each event of their task once, in order."),
        Figure(
            "heard_p50",
            "ms",
            "From an event's `create_time` (whole ms, rounded down) to its receipt in the client. Median.",
            1,
        ),
        Figure("heard_p99", "ms", "99th percentile.", 1),
        Figure("heard_max", "ms", "The slowest.", 1),
        Figure("server_cpu", "us/event", "CPU of the server per event, the tasks' own execution included."),
        Figure(
            "watcher_rss",
            "KiB",
            "Growth of the server's resident memory by the watchers, over their number; what was free in the "
            "process is used first, and is not in it.",
            1,
        ),
        Figure(
            "watcher_rss_next",
            "KiB",
            "The same of the latter half of the watchers, for whom nothing is free any more: what each "
            "further one takes.",
            1,
        ),
        ELSEWHERE_FIGURE,
    ),
    _run,
)
