"""`python -m benchmarks.micro`."""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import uvloop

from benchmarks.micro.scripts import ScriptCost, measure
from benchmarks.micro.steps import steps, time_us

#: Tasks in a call: on a quiet server, and on a busy one.
_SIZES = (1, 100)


def main() -> None:
    """Time what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro", description="Time single steps of the server, in this process."
    )
    parser.add_argument("--only", choices=["steps", "scripts"], help="time steps in Python, or scripts alone")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="measurements of each step")
    parser.add_argument("--tasks", type=int, default=3_000, metavar="N", help="tasks for each script")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args()
    timed: dict[str, tuple[float, float]] = {}
    costs: list[ScriptCost] = []
    if parsed.only != "scripts":
        timed = {name: time_us(step, parsed.repeat) for name, step in steps().items()}
    if parsed.only != "steps":
        with tempfile.TemporaryDirectory(prefix="kuueri-bench-") as directory:
            costs = uvloop.run(measure(Path(directory), parsed.tasks, _SIZES))
    if parsed.json:
        print(json.dumps({"steps": timed, "scripts": [dataclasses.asdict(cost) for cost in costs]}, indent=2))
        return
    if timed:
        _print_steps(timed)
    for cost in costs:
        _print_script(cost)


def _print_steps(timed: dict[str, tuple[float, float]]) -> None:
    print(f"{'us':<42} {'least':>7} {'median':>7}")
    for name, (least, median) in timed.items():
        print(f"{name:<42} {least:7.2f} {median:7.2f}")


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
