"""`python -m benchmarks.micro`."""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import uvloop

from benchmarks.micro.authentication import AuthenticationCost, measure_authentication
from benchmarks.micro.largest import all_cases
from benchmarks.micro.largest_cases import CASES
from benchmarks.micro.scripts import ScriptCost, measure
from benchmarks.micro.steps import steps, time_us

#: Tasks in a call: on a quiet server, and on a busy one.
_SIZES = (1, 100)
_CALLS_PER_ROUND = 100


def main() -> None:
    """Time what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro", description="Time single steps of the server, in this process."
    )
    parser.add_argument(
        "--only",
        choices=["steps", "scripts", "largest", "authentication"],
        help="time steps in Python, scripts, scripts at the largest inputs that limits allow, or what "
        "authentication adds to a Subscribe, alone",
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="measurements of each step")
    parser.add_argument("--tasks", type=int, default=3_000, metavar="N", help="tasks for each script")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of authentication")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args()
    timed: dict[str, tuple[float, float]] = {}
    costs: list[ScriptCost] = []
    authentication: AuthenticationCost | None = None
    if parsed.only in (None, "steps"):
        timed = {name: time_us(step, parsed.repeat) for name, step in steps().items()}
    if parsed.only in (None, "authentication"):
        with tempfile.TemporaryDirectory(prefix="kuueri-bench-") as directory:
            authentication = uvloop.run(
                measure_authentication(Path(directory), parsed.rounds, _CALLS_PER_ROUND)
            )
    if parsed.only in (None, "scripts"):
        with tempfile.TemporaryDirectory(prefix="kuueri-bench-") as directory:
            costs = uvloop.run(measure(Path(directory), parsed.tasks, _SIZES))
    largest: dict[str, int] = {}
    if parsed.only in (None, "largest"):
        with tempfile.TemporaryDirectory(prefix="kuueri-bench-") as directory:
            largest = uvloop.run(all_cases(Path(directory), CASES, parsed.repeat))
    if parsed.json:
        document = {
            "steps": timed,
            "scripts": [dataclasses.asdict(cost) for cost in costs],
            "largest": largest,
            "authentication": None if authentication is None else dataclasses.asdict(authentication),
        }
        print(json.dumps(document, indent=2))
        return
    if timed:
        _print_steps(timed)
    for cost in costs:
        _print_script(cost)
    for name, us in largest.items():
        print(f"{us / 1_000:8.2f} ms  {name}")
    if authentication is not None:
        _print_authentication(authentication)


def _print_steps(timed: dict[str, tuple[float, float]]) -> None:
    print(f"{'us':<42} {'least':>7} {'median':>7}")
    for name, (least, median) in timed.items():
        print(f"{name:<42} {least:7.2f} {median:7.2f}")


def _print_authentication(cost: AuthenticationCost) -> None:
    low, high = cost.spread_us
    print(f"\nSubscribe, {cost.calls} calls each way: us of CPU per call, of the server")
    print(f"  without authentication {cost.without_us:7.1f}")
    print(f"  with it                {cost.with_us:7.1f}")
    print(
        f"  added by it            {cost.added_us:7.1f}  (middle half of the rounds: {low:.1f} to {high:.1f})"
    )


def _print_script(cost: ScriptCost) -> None:
    print(f"\n{cost.name}.lua, {cost.tasks_per_call} in a call: us per task")
    parts = {
        "store CPU": cost.store_cpu_us,
        "script": cost.script_us,
        "of it commands": cost.commands_us,
        "of it Lua": cost.lua_us,
        "client CPU": cost.python_us,
        "elapsed": cost.wall_us,
    }
    for name, us in parts.items():
        print(f"  {name:<16} {us:7.1f}")
    print(
        "  commands: " + ", ".join(f"{name} {us:.1f} ({n:.2f}x)" for name, (us, n) in cost.commands.items())
    )


if __name__ == "__main__":
    main()
