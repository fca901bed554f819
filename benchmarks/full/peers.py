"""Other systems on the same tasks, on the same kind of target, in turns with ours.

A harness of other systems is a folder with a `run.py` that takes

    --peer NAME --scenario burst|spread|pending --tasks N --workers N [--bulk] --work DIR

runs NAME once on a store and a target of its own, and prints its figures as one line of JSON:
`enqueue_per_s`, `drain_per_s`, `lost`, `duplicates`, `late_p50_ms`, `late_p99_ms`, `worker_cpu_s`,
`store_bytes_per_task`, as far as the scenario has them. Tasks there are what `harness.workload` has.
"""

import asyncio
import dataclasses
import functools
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.model import BenchmarkFailed, Options, Values
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.common import on_workers

OURS = "kuueri"
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of a workload: its key among ours, and among the harness's. `more`: is more better?"""

    key: str
    ours: str
    theirs: str
    unit: str
    meaning: str
    more: bool
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """The same tasks for all. `scenario` and its options are ours, `arguments` are for the harness."""

    name: str
    summary: str
    scenario: str
    tasks: int
    workers: int
    arguments: tuple[str, ...]
    compared: tuple[Compared, ...]
    seconds: float | None = None

    async def ours(self, options: Options) -> Values:
        """Run it on our server."""
        options = dataclasses.replace(options, tasks=self.tasks, seconds=self.seconds)
        values = await SCENARIOS[self.scenario].run(on_workers(options, self.workers))
        return {figure.key: values[figure.ours] for figure in self.compared}

    async def theirs(self, harness: Path, peer: str, work: Path) -> Values:
        """Run it on another system. Raises `BenchmarkFailed`: the harness did not measure it."""
        arguments = [
            *("--peer", peer, "--tasks", str(self.tasks), "--workers", str(self.workers)),
            *("--work", str(work), *self.arguments),
        ]
        values = await _run(harness, arguments)
        values["cpu_per_task"] = 1e6 * values.get("worker_cpu_s", 0.0) / self.tasks
        return {figure.key: float(values[figure.theirs]) for figure in self.compared}


_LOST = Compared("lost", "lost", "lost", "tasks", "Tasks that never arrived", more=False)
_DRAIN = (
    Compared("drain", "drain_rate", "drain_per_s", "tasks/s", "Tasks sent", more=True),
    Compared("cpu", "server_cpu", "cpu_per_task", "us/task", "CPU of the workers", more=False),
    _LOST,
)

WORKLOADS = (
    Workload(
        "burst, 1 worker", "5,000 tasks due at one instant, one worker", "burst", 5_000, 1,
        ("--scenario", "burst"), _DRAIN,
    ),
    Workload(
        "burst, 2 workers", "5,000 tasks due at one instant, two workers", "burst", 5_000, 2,
        ("--scenario", "burst"), _DRAIN,
    ),
    Workload(
        "spread", "3,000 tasks due evenly over 30 s, one worker", "spread", 3_000, 1,
        ("--scenario", "spread"),
        (
            Compared("late_p50", "late_p50", "late_p50_ms", "ms", "Lateness, median", more=False),
            Compared("late_p99", "late_p99", "late_p99_ms", "ms", "Lateness, 99th percentile", more=False),
            _LOST,
        ),
    ),
    Workload(
        "accept, one by one", "tasks accepted one by one, 64 in flight", "accept", 10_000, 2,
        ("--scenario", "pending"),
        (Compared("accept", "subscribe", "enqueue_per_s", "tasks/s", "Tasks accepted", more=True),),
    ),
    Workload(
        "accept, in batches", "tasks accepted in batches of 1,000", "accept", 20_000, 2,
        ("--scenario", "pending", "--bulk"),
        (Compared("accept", "batch", "enqueue_per_s", "tasks/s", "Tasks accepted", more=True),),
    ),
    Workload(
        "waiting", "50,000 tasks that wait for an hour", "idle", 50_000, 1, ("--scenario", "pending"),
        (
            Compared(
                "bytes", "store_bytes", "store_bytes_per_task", "bytes/task", "Store memory", more=False
            ),
        ),
        seconds=1.0,
    ),
)  # fmt: skip


def systems(
    workload: Workload, options: Options, harness: Path | None, peers: list[str], work: Path
) -> Mapping[str, Callable[[], Awaitable[Values]]]:
    """Return how to run a workload once on each system, ours first."""
    runs: dict[str, Callable[[], Awaitable[Values]]] = {OURS: lambda: workload.ours(options)}
    if harness is not None:
        for peer in peers:
            runs[peer] = functools.partial(workload.theirs, harness, peer, work)
    return runs


async def _run(harness: Path, arguments: list[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(harness / "run.py"), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, errors = await process.communicate()
    except TimeoutError:
        raise BenchmarkFailed(f"the harness did not end within {_TIMEOUT_S:g} s: {arguments}") from None
    finally:
        if process.returncode is None:
            # Python's harnesses stop in order, with what they have started, on Ctrl-C alone.
            process.send_signal(signal.SIGINT)
            await process.wait()
    if process.returncode:
        said = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise BenchmarkFailed(f"the harness ended with {process.returncode}: {' '.join(said)}")
    document: dict[str, Any] = json.loads(out.splitlines()[-1])
    return document
