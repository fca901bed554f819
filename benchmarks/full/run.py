"""The order of a full run: what is compared first, in turns, then curves, scenarios and costs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.curves import CURVES
from benchmarks.curves.model import Curve
from benchmarks.full.costs import costs, profile
from benchmarks.full.peers import WORKLOADS, systems
from benchmarks.full.results import Results, together
from benchmarks.model import BenchmarkFailed, Options, Values
from benchmarks.scenarios import SCENARIOS

#: `scale` is the curve `waiting`; the comparison has `burst`, `spread` and `accept` on fewer tasks.
SCENARIOS_OF_A_FULL_RUN = ("bare", "burst", "spread", "accept", "watch", "idle", "start", "recover", "cancel")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a full run measures. `only`: parts of it; `quick`: one run of little, to see that all works."""

    options: Options
    folder: Path
    harness: Path | None
    peers: list[str]
    work: Path
    runs: int
    quick: bool
    only: frozenset[str]

    def has(self, part: str) -> bool:
        """Is a part of it wanted?"""
        return not self.only or part in self.only

    @property
    def times(self) -> int:
        """Runs of each."""
        return 1 if self.quick else self.runs


async def run(plan: Plan, results: Results) -> None:
    """Measure, keeping what there is so far in `results.json` of the folder."""
    start = time.monotonic()
    parts: dict[str, Callable[[Plan, Results], Awaitable[None]]] = {
        "peers": _peers,
        "scenarios": _scenarios,
        "curves": _curves,
        "costs": _costs,
    }
    results.machine = machine.describe(plan.options.target)
    for name, part in parts.items():
        if plan.has(name):
            # What is measured anew was not missing.
            results.missing = [text for text in results.missing if not text.startswith(f"{name}: ")]
            try:
                await part(plan, results)
            finally:
                results.took_s = time.monotonic() - start
                results.write(plan.folder / "results.json")


async def _peers(plan: Plan, results: Results) -> None:
    results.peers = {}
    for workload in WORKLOADS[:1] if plan.quick else WORKLOADS:
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


async def _scenarios(plan: Plan, results: Results) -> None:
    results.scenarios = {}
    for name in SCENARIOS_OF_A_FULL_RUN[:1] if plan.quick else SCENARIOS_OF_A_FULL_RUN:
        scenario = SCENARIOS[name]
        # These two repeat what they measure by themselves.
        times = 1 if name in ("bare", "start") else plan.times
        tried = [
            await _tried("scenarios", name, _within(scenario.run(plan.options), scenario.limit_s), results)
            for _ in range(times)
        ]
        if runs := [values for values in tried if values is not None]:
            results.scenarios[name] = together(runs)


async def _curves(plan: Plan, results: Results) -> None:
    results.curves = {}
    for curve in CURVES.values():
        points: dict[int, list[Values]] = {}
        sizes = curve.points[:2] if plan.quick else curve.points
        work = _collect(curve, curve.run(plan.options, sizes, plan.times), points)
        await _tried("curves", curve.name, _within(work, curve.limit_s), results)
        if points:
            results.curves[curve.name] = {point: together(runs) for point, runs in points.items()}


async def _collect(
    curve: Curve, measured: AsyncIterator[tuple[int, Values]], points: dict[int, list[Values]]
) -> Values:
    """Put what a curve measures into `points` as it comes: what there is stays, if it breaks off."""
    async for point, values in measured:
        points.setdefault(point, []).append(values)
        _say(f"{curve.name} {point:,}: {values}")
    return {}


async def _costs(plan: Plan, results: Results) -> None:
    await profile(plan.options, plan.folder)
    bare, burst = results.scenarios.get("bare"), results.scenarios.get("burst")
    if bare is None or burst is None:
        results.missing.append("costs: they need the scenarios bare and burst")
        return
    results.costs = await costs(plan.folder, bare, burst)


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
    except BenchmarkFailed as failure:
        first = str(failure).splitlines()[0]
        _say(f"{what} failed: {failure}")
        results.missing.append(f"{part}: {what}: {first}")
        return None
    _say(f"{what}: {' '.join(f'{key}={value:.4g}' for key, value in values.items())}")
    return values


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
