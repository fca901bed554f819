"""A full run outlives what fails in it, and goes on where it was stopped."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks.full import run as full
from benchmarks.full.results import Results
from benchmarks.model import BenchmarkFailed, Options, Scenario, Values

Run = Callable[[Options], Awaitable[Values]]


@pytest.fixture
def plan(tmp_path: Path) -> full.Plan:
    return full.Plan(
        options=Options(target="python"),
        folder=tmp_path,
        harness=None,
        peers=[],
        work=tmp_path,
        runs=1,
        quick=False,
        only=frozenset({"scenarios"}),
    )


@pytest.fixture
def scenarios(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scenario]:
    known: dict[str, Scenario] = {}
    monkeypatch.setattr(full, "SCENARIOS", known)
    monkeypatch.setattr(full, "SCENARIOS_OF_A_FULL_RUN", ("first", "second", "third"))
    return known


async def measured(options: Options) -> Values:
    return {"rate": 1.0}


def failing(error: Exception) -> Run:
    async def fail(options: Options) -> Values:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BenchmarkFailed("no /home/me/bin/nginx here\nmore"), "no nginx here"),
        (KeyError("rate"), "KeyError: 'rate'"),
        (
            OSError(28, "No space left on device", "/var/x/y"),
            "OSError: [Errno 28] No space left on device: 'y'",
        ),
        (BenchmarkFailed("http://127.0.0.1/a/b did not answer"), "http://127.0.0.1/a/b did not answer"),
    ],
)
async def test_what_fails_is_noted_without_folders_and_the_rest_is_measured(
    plan: full.Plan, scenarios: dict[str, Scenario], error: Exception, reason: str
) -> None:
    scenarios.update(
        first=Scenario("first", "", (), measured),
        second=Scenario("second", "", (), failing(error)),
        third=Scenario("third", "", (), measured),
    )
    await full.run(plan, Results(machine={}))
    kept = Results.read(plan.kept)
    assert list(kept.scenarios) == ["first", "third"]
    assert kept.missing == [f"scenarios: second: {reason}"]


async def test_a_run_that_was_stopped_goes_on_with_what_is_missing(
    plan: full.Plan, scenarios: dict[str, Scenario]
) -> None:
    begun = asyncio.Event()
    runs: list[str] = []

    def counted(name: str) -> Run:
        async def count(options: Options) -> Values:
            runs.append(name)
            return {"rate": 1.0}

        return count

    async def endless(options: Options) -> Values:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled")

    scenarios.update(
        first=Scenario("first", "", (), counted("first")),
        second=Scenario("second", "", (), failing(BenchmarkFailed("not today"))),
        third=Scenario("third", "", (), endless),
    )
    running = asyncio.create_task(full.run(plan, Results(machine={})))
    await begun.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    kept = Results.read(plan.kept)
    assert list(kept.scenarios) == ["first"]

    for name in ("second", "third"):
        scenarios[name] = Scenario(name, "", (), counted(name))
    resumed = dataclasses.replace(plan, resumed=True)
    await full.run(resumed, kept)
    assert runs == ["first", "second", "third"]
    assert kept.missing == []
    assert set(Results.read(plan.kept).scenarios) == {"first", "second", "third"}


async def test_what_failed_in_one_of_its_runs_is_measured_anew(
    plan: full.Plan, scenarios: dict[str, Scenario]
) -> None:
    results = Results(machine={}, missing=["scenarios: first: not today"])
    full._forget_failed(results, "scenarios")
    scenarios["first"] = Scenario("first", "", (), measured)
    await full._scenario(plan, results, "first")
    full._forget_failed(results, "scenarios")
    assert results.scenarios == {}
