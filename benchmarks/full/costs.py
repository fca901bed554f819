"""CPU of one task, step by step: where the time goes."""

import asyncio
import dataclasses
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.full.results import Spreads
from benchmarks.model import BenchmarkFailed, Options, Values
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.common import on_workers

_DISPATCHER = "kuueri_grpc/dispatcher/"
_TIMELINE = ("rpush", "xadd")
_BATCH = 100


async def profile(options: Options, folder: Path) -> Values:
    """Profile one worker through a burst, into `burst.folded`, and through another into `flame.svg`.

    Return the figures of the second burst. If it fails there are no files, not even those of an earlier run.
    """
    names = ("burst.folded", "flame.svg")
    for name in names:
        (folder / name).unlink(missing_ok=True)
    values: Values = {}
    for name in names:
        values = await SCENARIOS["burst"].run(
            on_workers(dataclasses.replace(options, profile=folder / name, tasks=20_000), 1)
        )
    flame = folder / "flame.svg"
    flame.write_text(entitled(flame.read_text(encoding="utf-8")), encoding="utf-8")
    return values


def entitled(svg: str) -> str:
    """Return a flame graph under a title of its own, instead of py-spy's command line with its paths."""
    return re.sub(r">[^<>]*py-spy record[^<>]*<", ">A worker through a burst, by py-spy<", svg)


async def costs(folder: Path, bare: Spreads, burst: Spreads) -> dict[str, tuple[float, str]]:
    """Return what each step of a task costs in us of CPU, and how that was measured."""
    micro = await _micro()
    steps = {name: median for name, (_, median) in micro["steps"].items()}
    scripts = {(script["name"], script["tasks_per_call"]): script for script in micro["scripts"]}
    subscribe, claim, report = (
        scripts["subscribe", 1],
        scripts["claim", _BATCH],
        scripts["report", _BATCH],
    )
    share = dispatch_share((folder / "burst.folded").read_text(encoding="utf-8").splitlines())
    timeline = sum(
        script["commands"][command][0]
        for script in (claim, report)
        for command in _TIMELINE
        if command in script["commands"]
    )
    one, batch = "1 task in a call", f"{_BATCH} tasks in a call"
    return {
        "edge": (
            bare["bare_cpu"].median,
            "server: the bare handler of `bare`, gRPC and one trip to the store",
        ),
        "validate": (steps["service.requests.read_subscribe"], "server: reading and checking one request"),
        "encrypt": (steps["store.vault.seal_request"], "server: sealing one request"),
        "script": (subscribe["store_cpu_us"], f"store: `subscribe.lua`, {one}"),
        "accept, in all": (
            bare["server_cpu"].median,
            (
                "server: one Subscribe of `bare`: its edge, validating, sealing, its trip to the store; "
                "not what the store does meanwhile (`script`)"
            ),
        ),
        "claim": (
            claim["store_cpu_us"] + claim["python_us"],
            f"store and worker: `claim.lua`, {batch}, its answer read and opened",
        ),
        "dispatch": (
            burst["server_cpu"].median * share,
            f"worker: {100 * share:.0f} % of its time in a burst is in `dispatcher/`, with aiohttp below it",
        ),
        "report": (report["store_cpu_us"] + report["python_us"], f"store and worker: `report.lua`, {batch}"),
        "timeline": (timeline, "store: the commands of claim and report that write events (part of the two)"),
        "execute, in all": (
            burst["server_cpu"].median + burst["store_cpu"].median,
            "worker and store: one task of `burst`",
        ),
    }


def dispatch_share(folded: Iterable[str]) -> float:
    """Return which part of the samples in folded stacks lies in the dispatcher, or was called by it."""
    inside = everything = 0
    for line in folded:
        stack, _, samples = line.rpartition(" ")
        everything += int(samples)
        inside += int(samples) if _DISPATCHER in stack else 0
    if not everything:
        raise BenchmarkFailed("the profile has no samples")
    return inside / everything


async def _micro() -> dict[str, Any]:
    document: dict[str, Any] = {}
    for only in ("steps", "scripts"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.micro", "--only", only, "--repeat", "3", "--json"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise BenchmarkFailed(f"benchmarks.micro --only {only} ended with {process.returncode}")
        document[only] = json.loads(out)[only]
    return document
