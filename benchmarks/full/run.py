"""The order of a full run: what is compared first, in turns, then curves, scenarios and costs."""

import asyncio
import re
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.curves import CURVES
from benchmarks.curves.model import Curve
from benchmarks.full.costs import costs, profile
from benchmarks.full.peers import WORKLOADS, systems
from benchmarks.full.results import Results, Spreads, together
from benchmarks.model import BenchmarkFailed, Options, Values
from benchmarks.scenarios import SCENARIOS

#: What `costs` holds its steps against.
_FOR_COSTS = ("bare", "burst")
#: The folders of a path: where things are on this machine is nobody's business.
_FOLDERS = re.compile(r"(?<![\w:/.])/(?:[\w.@+-]+/)+")

#: `scale` is the curve `waiting`; the comparison has `burst`, `spread` and `accept` on fewer tasks.
SCENARIOS_OF_A_FULL_RUN = ("bare", "burst", "spread", "accept", "watch", "idle", "start", "recover", "cancel")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a full run measures.

    `only`: parts of it; `quick`: one run of little, to see that all works; `resumed`: what the results have
    is not measured again.
    """

    options: Options
    folder: Path
    harness: Path | None
    peers: list[str]
    work: Path
    runs: int
    quick: bool
    only: frozenset[str]
    resumed: bool = False

    def has(self, part: str) -> bool:
        """Is a part of it wanted?"""
        return not self.only or part in self.only

    @property
    def times(self) -> int:
        """Runs of each."""
        return 1 if self.quick else self.runs

    @property
    def kept(self) -> Path:
        """Where the results are."""
        return self.folder / "results.json"


async def run(plan: Plan, results: Results) -> None:
    """Measure, keeping what there is so far. What fails is noted, and the others go on."""
    start = time.monotonic() - (results.took_s if plan.resumed else 0.0)
    parts: dict[str, Callable[[Plan, Results], Awaitable[None]]] = {
        "peers": _peers,
        "scenarios": _scenarios,
        "curves": _curves,
        "costs": _costs,
    }
    results.machine = machine.describe(plan.options.target)
    for name, part in parts.items():
        if plan.has(name):
            if plan.resumed:
                _forget_failed(results, name)
            # What is measured anew was not missing.
            results.missing = [text for text in results.missing if not text.startswith(f"{name}: ")]
            try:
                await part(plan, results)
            finally:
                results.took_s = time.monotonic() - start
                results.write(plan.kept)


def _forget_failed(results: Results, part: str) -> None:
    """Drop what a part has of things of which a run failed, so that they are measured anew."""
    begin = f"{part}: "
    failed = [text.removeprefix(begin) for text in results.missing if text.startswith(begin)]
    if part == "costs":
        results.costs = {} if failed else results.costs
        return
    kept: dict[str, Any] = getattr(results, part)
    for name in list(kept):
        if any(text.startswith((f"{name}: ", f"{name} on ")) for text in failed):
            del kept[name]


async def _peers(plan: Plan, results: Results) -> None:
    if not plan.resumed:
        results.peers = {}
    for workload in WORKLOADS[:1] if plan.quick else WORKLOADS:
        if workload.name in results.peers:
            continue
        runs: dict[str, list[Values]] = {}
        for _ in range(plan.times):
            for system, measure in systems(
                workload, plan.options, plan.harness, plan.peers, plan.work
            ).items():
                values = await _tried("peers", f"{workload.name} on {system}", measure(), results)
                if values is not None:
                    runs.setdefault(system, []).append(values)
        if runs:
            results.peers[workload.name] = {system: together(values) for system, values in runs.items()}
            results.write(plan.kept)


async def _scenarios(plan: Plan, results: Results) -> None:
    if not plan.resumed:
        results.scenarios = {}
    for name in SCENARIOS_OF_A_FULL_RUN[:1] if plan.quick else SCENARIOS_OF_A_FULL_RUN:
        if name not in results.scenarios:
            await _scenario(plan, results, name)


async def _scenario(plan: Plan, results: Results, name: str) -> None:
    scenario = SCENARIOS[name]
    # These two repeat what they measure by themselves.
    times = 1 if name in ("bare", "start") else plan.times
    tried = [
        await _tried("scenarios", name, _within(scenario.run(plan.options), scenario.limit_s), results)
        for _ in range(times)
    ]
    if runs := [values for values in tried if values is not None]:
        results.scenarios[name] = together(runs)
        results.write(plan.kept)


async def _curves(plan: Plan, results: Results) -> None:
    if not plan.resumed:
        results.curves = {}
    for curve in CURVES.values():
        if curve.name in results.curves:
            continue
        points: dict[int, list[Values]] = {}
        sizes = curve.points[:2] if plan.quick else curve.points
        work = _collect(curve, curve.run(plan.options, sizes, plan.times), points)
        await _tried("curves", curve.name, _within(work, curve.limit_s), results)
        if points:
            results.curves[curve.name] = {point: together(runs) for point, runs in points.items()}
            results.write(plan.kept)


async def _collect(
    curve: Curve, measured: AsyncIterator[tuple[int, Values]], points: dict[int, list[Values]]
) -> Values:
    """Put what a curve measures into `points` as it comes: what there is stays, if it breaks off."""
    async for point, values in measured:
        points.setdefault(point, []).append(values)
        _say(f"{curve.name} {point:,}: {values}")
    return {}


async def _costs(plan: Plan, results: Results) -> None:
    if plan.resumed and results.costs:
        return
    results.costs = {}
    if await _tried("costs", "the flame graph", profile(plan.options, plan.folder), results) is None:
        return
    for name in _FOR_COSTS:
        if name not in results.scenarios:
            await _scenario(plan, results, name)
    if all(name in results.scenarios for name in _FOR_COSTS):
        bare, burst = (results.scenarios[name] for name in _FOR_COSTS)
        await _tried("costs", "the steps of a task", _steps(plan, bare, burst, results), results)
    else:
        results.missing.append(f"costs: they need the scenarios {' and '.join(_FOR_COSTS)}")


async def _steps(plan: Plan, bare: Spreads, burst: Spreads, results: Results) -> Values:
    results.costs = await costs(plan.folder, bare, burst)
    return {step: us for step, (us, _) in results.costs.items()}


async def _within(work: Awaitable[Values], limit_s: float) -> Values:
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError:
        raise BenchmarkFailed(f"it did not end within {limit_s:g} s") from None


async def _tried(part: str, what: str, work: Awaitable[Values], results: Results) -> Values | None:
    """Return what a run measured; None: it failed, which is noted. The others go on."""
    try:
        values = await work
    except Exception as failure:  # noqa: BLE001  half an hour of measuring is not lost by whatever it is
        _say(f"{what} failed: {failure}")
        if not isinstance(failure, BenchmarkFailed):
            traceback.print_exception(failure)
        results.missing.append(f"{part}: {what}: {_reason(failure)}")
        return None
    _say(f"{what}: {' '.join(f'{key}={value:.4g}' for key, value in values.items())}")
    return values


def _reason(failure: Exception) -> str:
    """Return the first line of what went wrong, fit for a document: without the folders of this machine."""
    first = next(iter(str(failure).splitlines()), "")
    if not isinstance(failure, BenchmarkFailed):
        first = f"{type(failure).__name__}: {first}"
    return _FOLDERS.sub("", first)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
