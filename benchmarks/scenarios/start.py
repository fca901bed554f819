"""`start`: how long the command and the server take to be there, and what their processes weigh."""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import procfs
from benchmarks.harness.server import serving
from benchmarks.model import BenchmarkFailed, Figure, Options, Scenario, Values
from benchmarks.scenarios.common import on_workers

_HELPS = 9
_STARTS = 3
_WORKERS = 2
_SETTLE_S = 1.0


async def _run(options: Options) -> Values:
    await _help_s()  # reads the files into the system's cache
    helps = [await _help_s() for _ in range(_HELPS)]
    one = [await _start(on_workers(options, 1)) for _ in range(_STARTS)]
    several = [await _start(on_workers(options, _WORKERS)) for _ in range(_STARTS)]
    return {
        "help": statistics.median(helps),
        "ready_one": statistics.median(start["ready"] for start in one),
        "ready": statistics.median(start["ready"] for start in several),
        "ready_again": statistics.median(start["again"] for start in several),
        "worker_rss": statistics.median(start["largest"] for start in several),
        "server_rss": statistics.median(start["all"] for start in several),
        "store_rss": statistics.median(start["store"] for start in several),
    }


async def _help_s() -> float:
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("kuueri")), "--help", stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise BenchmarkFailed(f"`kuueri --help` ended with {process.returncode}")
    return time.perf_counter() - start


async def _start(options: Options) -> Values:
    with tempfile.TemporaryDirectory(prefix="kuueri-bench-") as name:
        directory = Path(name)
        start = time.perf_counter()
        async with serving(options, directory) as server:
            ready_s = time.perf_counter() - start
            await asyncio.sleep(_SETTLE_S)
            sizes = [procfs.rss_bytes([pid]) / 1e6 for pid in server.pids()]
            store = procfs.rss_bytes([server.store.pid]) / 1e6
        start = time.perf_counter()
        async with serving(options, directory):
            again_s = time.perf_counter() - start
    return {"ready": ready_s, "again": again_s, "largest": max(sizes), "all": sum(sizes), "store": store}


SCENARIO = Scenario(
    "start",
    f"`kuueri --help` {_HELPS} times; `kuueri serve` on an empty directory {_STARTS} times "
    f"with 1 worker, and with {_WORKERS}",
    (
        Figure("help", "s", "From the start of `kuueri --help` to its end. Median.", 3),
        Figure(
            "ready_one", "s", "From the start of `kuueri serve --workers 1` until it says ready. Median.", 2
        ),
        Figure("ready", "s", f"The same with {_WORKERS} workers.", 2),
        Figure("ready_again", "s", f"The same with {_WORKERS} workers, on the directory that was left.", 2),
        Figure("worker_rss", "MB", "Resident memory of the largest process of the server, idle.", 1),
        Figure(
            "server_rss", "MB", f"Resident memory of its processes, {_WORKERS} workers, without the store.", 1
        ),
        Figure("store_rss", "MB", "Resident memory of the embedded store.", 1),
    ),
    _run,
)
