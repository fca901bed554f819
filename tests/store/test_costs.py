"""What a task costs is what `benchmarks/costs.json` says, counted on a store; see `benchmarks/costs.py`."""

import subprocess
import sys

import pytest

from benchmarks import costs


def test_a_task_costs_what_it_did() -> None:
    """In a process of its own: what other tests have loaded changes what functions call."""
    root = costs.FILE.parents[1]
    counted = subprocess.run(
        [sys.executable, "-m", "benchmarks.costs"], cwd=root, capture_output=True, text=True, check=False
    )

    assert counted.returncode == 0, (
        f"{counted.stdout}{counted.stderr}If that is meant: `make costs`, and commit the file"
    )


KEPT: costs.Costs = {
    "commands of report, 1 in a call": {"in all": 21.0, "hset": 1.0},
    "bytes of memory, per waiting task": {"in all": 900},
    "python calls, cpython 3.11": {"decide": 18},
}


@pytest.mark.parametrize(
    ("group", "figure", "amount"),
    [
        ("commands of report, 1 in a call", "hset", 2.0),
        ("commands of report, 1 in a call", "hset", 0.0),
        ("commands of report, 1 in a call", "pexpire", 1.0),
        ("bytes of memory, per waiting task", "in all", 920),
        ("bytes of memory, per waiting task", "in all", 880),
        ("python calls, cpython 3.11", "decide", 19),
    ],
)
def test_a_difference_is_told(group: str, figure: str, amount: float) -> None:
    now = {**KEPT, group: {**KEPT[group], figure: amount}}

    (told,) = costs.differences(KEPT, now)

    assert told == f"{group}: {figure} was {KEPT[group].get(figure, 0):g}, is {amount:g}"


def test_what_is_within_the_tolerance_is_not() -> None:
    now = {
        "commands of report, 1 in a call": {"in all": 21.02, "hset": 1.0},
        "bytes of memory, per waiting task": {"in all": 910.0},
        "python calls, cpython 3.13": {"decide": 40.0},
    }

    assert costs.differences(KEPT, now) == []
