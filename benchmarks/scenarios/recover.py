"""`recover`: how soon tasks run again whose worker was killed."""

import asyncio
import dataclasses
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

from redis import Redis

from benchmarks.harness.client import connected
from benchmarks.harness.stage import now_ms, staged
from benchmarks.model import BenchmarkFailed, Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE
from benchmarks.statistics import percentile
from kuueri_grpc.store import keys
from kuueri_grpc.store.data_dir import socket_path

_TASKS = 200
_WORKERS = 2
_ANSWER_S = 2.0
#: Workers have found each other, and share the partitions.
_SETTLE_S = 6.0
_LEAD_MS = 1_000
#: Far longer than a lease and what follows its end.
_PATIENCE_S = 60.0


async def _run(options: Options) -> Values:
    tasks = options.tasks or _TASKS
    # Only the target in Python can be slow.
    options = dataclasses.replace(
        options, target="python", serve_arguments=("--workers", str(_WORKERS), *options.serve_arguments)
    )
    async with staged(options, target_delay_s=_ANSWER_S) as stage:
        await asyncio.sleep(_SETTLE_S)
        await stage.target.mark()
        due_ms = await stage.subscribe([now_ms() + _LEAD_MS] * tasks)
        meter = stage.meter()
        await stage.target.wait_for(tasks, _PATIENCE_S)
        victim, in_flight = _busiest(stage.directory)
        os.kill(victim, signal.SIGKILL)
        killed_ms = time.time_ns() / 1e6
        # The process that is gone may have been the one that this client was connected to.
        async with connected(stage.server.address, stage.client.token) as client:
            await client.all_ended(_PATIENCE_S)
            unended = await client.live_tasks()
        usage = meter.stop()
        arrivals = [arrival for arrival in await stage.target.arrivals() if arrival.task_id in due_ms]
    again_ms = sorted(a.at_ms - killed_ms for a in arrivals if a.at_ms > killed_ms)
    if not again_ms:
        raise BenchmarkFailed("the worker that was killed had nothing in flight")
    return {
        "in_flight": in_flight,
        "again": len(again_ms),
        "lost": tasks - len({arrival.task_id for arrival in arrivals}),
        "unended": unended,
        "retried": sum(arrival.attempt != 1 for arrival in arrivals),
        "again_p50": percentile(again_ms, 50) / 1_000,
        "again_max": again_ms[-1] / 1_000,
        "elsewhere": usage.elsewhere_percent,
    }


def _busiest(directory: Path) -> tuple[int, int]:
    """Return the process that holds most leases now, and how many it holds."""
    path = str(socket_path(directory / "data"))
    with (
        Redis(unix_socket_path=path, db=keys.AUTHORISATION, decode_responses=True) as announced,
        Redis(unix_socket_path=path, db=keys.EXECUTION, decode_responses=True) as execution,
    ):
        holders: Counter[str] = Counter()
        for leases in execution.scan_iter("*:leases"):
            partition = leases.removesuffix(":leases")
            for task in execution.zrange(leases, 0, -1):
                holders[execution.hget(f"{partition}:task:{task}", "holder") or ""] += 1
        instance_id, held = holders.most_common(1)[0]
        return int(json.loads(announced.hget(keys.INSTANCE_DETAILS, instance_id) or "")["pid"]), held


SCENARIO = Scenario(
    "recover",
    f"{_TASKS} attempts in flight to a target that takes {_ANSWER_S:g} s, on {_WORKERS} workers; "
    "kill -9 of the worker that has most of them",
    (
        Figure("in_flight", "attempts", "Attempts that the killed worker had in flight."),
        Figure("again", "attempts", "Attempts that arrived once more after it."),
        Figure("lost", "tasks", "Tasks that never arrived."),
        Figure("unended", "tasks", "Tasks that had not ended when it was over."),
        Figure(
            "retried", "attempts", "Attempts that arrived with another number than 1: a retry was used up."
        ),
        Figure("again_p50", "s", "From the kill to the arrival of the same attempt once more. Median.", 2),
        Figure("again_max", "s", "The last of them.", 2),
        ELSEWHERE_FIGURE,
    ),
    _run,
)
