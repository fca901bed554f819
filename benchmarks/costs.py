"""`python -m benchmarks.costs`: what a task costs, in counts that no machine's mood changes.

`costs.json` beside this file holds them; `tests/store/test_costs.py` holds the code to the file. `make costs`
writes it anew, to be committed with the change that altered it.

Per task: commands that the store runs by kind (`tasks` per script call), script calls (round trips), bytes of
the append-only file; bytes of memory of a task that waits; bytes of what is kept of it. Per call: calls of
Python and C functions in single steps, as the interpreter counts them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.harness import workload
from benchmarks.micro import samples
from benchmarks.micro.scripts import PROJECT, ScriptCost, Stores, measure, stores
from benchmarks.micro.steps import steps
from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.pb import task_service_pb2

FILE = Path(__file__).with_name("costs.json")

_SIZES = (1, 100)
_TASKS = 400
_WAITING, _BATCH = 10_000, 100
_HOUR_MS = 3_600_000
_QUEUE_LIMIT = 1_000_000

#: Relative and absolute tolerance by the first word of a figure's group. A command more for each task, or for
#: each call with one, is 1 more; who is the first to wake a scheduler differs from run to run. Of calls in
#: one millisecond the second has the same turn to write into the due index, which then is not written.
_TOLERANCES = {"commands": (0.0, 0.03), "bytes": (0.02, 0.0), "written": (0.06, 0.0), "python": (0.02, 0.0)}

Costs = dict[str, dict[str, float]]


def measured() -> Costs:
    """Return what a task costs now: group -> figure -> amount."""
    with tempfile.TemporaryDirectory(prefix="kuueri-costs-") as directory:
        scripts = uvloop.run(measure(Path(directory, "scripts"), _TASKS, _SIZES))
        waiting = uvloop.run(_waiting(Path(directory, "waiting")))
    return {
        **{f"commands of {cost.name}, {cost.tasks_per_call} in a call": _commands(cost) for cost in scripts},
        "written bytes of the append-only file, per task": {
            f"{cost.name}, {cost.tasks_per_call} in a call": round(cost.written_bytes) for cost in scripts
        },
        **waiting,
        f"python calls, {python()}": {name: _calls(step) for name, step in steps().items()},
    }


def python() -> str:
    """Return the interpreter's name and minor version: others count otherwise."""
    return f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"


def differences(kept: Costs, now: Costs) -> list[str]:
    """Return how costs differ from those that are kept, as sentences.

    Python's calls are compared where they were counted by the same interpreter.
    """
    found = []
    for group in kept.keys() | now.keys():
        if group.startswith("python") and not (group in kept and group in now):
            continue
        before, after = kept.get(group, {}), now.get(group, {})
        for name in before.keys() | after.keys():
            was, is_now = before.get(name, 0), after.get(name, 0)
            relative, absolute = _TOLERANCES[group.split()[0]]
            if abs(is_now - was) > relative * was + absolute:
                found.append(f"{group}: {name} was {was:g}, is {is_now:g}")
    return sorted(found)


def kept() -> Costs:
    """Return the costs of the file."""
    costs: Costs = json.loads(FILE.read_text())
    return costs


def _commands(cost: ScriptCost) -> dict[str, float]:
    counts = {name: round(calls, 2) for name, (_, calls) in sorted(cost.commands.items())}
    return {"round trips": round(cost.round_trips, 2), "in all": round(sum(counts.values()), 2), **counts}


async def _waiting(directory: Path) -> Costs:
    """Have tasks wait, and return what they take in memory, and what is kept of one."""
    async with stores(directory) as opened:
        prefix, due_ms = workload.new_prefix(), int(time.time() * 1_000) + _HOUR_MS
        await _subscribe(opened, prefix, range(_BATCH), due_ms)
        before = await _used_memory(opened)
        for start in range(_BATCH, _BATCH + _WAITING, _BATCH):
            await _subscribe(opened, prefix, range(start, start + _BATCH), due_ms)
        grown = (await _used_memory(opened) - before) / _WAITING
        name = f"{PROJECT}/{workload.task_id(prefix, 0)}"
        memory: dict[str, float] = {"in all": round(grown)}
        kept_of_one: dict[str, float] = {}
        for family, database in {"task": 1, "config": 2, "timeline": 3}.items():
            size, fields = await _look(opened, database, f"{{{opened.partition}}}:{family}:{name}")
            memory[f"key of its {family}"] = size
            kept_of_one |= {f"{family}: {field}": length for field, length in fields.items()}
        return {"bytes of memory, per waiting task": memory, "bytes of fields": kept_of_one}


async def _subscribe(opened: Stores, prefix: str, places: range, due_ms: int) -> None:
    requests = (
        task_service_pb2.SubscribeRequest(task=workload.build_task(samples.URL, prefix, place, due_ms))
        for place in places
    )
    new = [samples.new_task(request) for request in requests]
    results = await opened.tasks.subscribe(PROJECT, new, _QUEUE_LIMIT)
    assert not any(isinstance(result, KuueriError) for result in results)


async def _used_memory(opened: Stores) -> int:
    return int((await opened.client.info("memory"))["used_memory"])


async def _look(opened: Stores, database: int, key: str) -> tuple[int, dict[str, int]]:
    """Return the memory that a key takes (0: it is not there), and the lengths of a hash's fields."""
    script = (
        "redis.call('SELECT', ARGV[1]) local size = redis.call('MEMORY', 'USAGE', KEYS[1]) or 0 "
        "return { size, redis.call('TYPE', KEYS[1]).ok == 'hash' and redis.call('HGETALL', KEYS[1]) or {} }"
    )
    size, flat = await opened.client.eval(script, 1, key, database)
    pairs = iter(flat)
    return size, {field.decode(): len(value) for field, value in zip(pairs, pairs, strict=True)}


def _calls(step: Callable[[], object]) -> int:
    """Return how many functions a step calls, those in C included; what is remembered is remembered."""
    step()
    count = 0

    def see(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        step()
    finally:
        sys.setprofile(None)
    return count - 1  # the call that ends the counting


def main() -> None:
    """Compare, or write the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.costs", description="Count what a task costs, and compare with costs.json."
    )
    parser.add_argument("--write", action="store_true", help="write costs.json anew")
    parsed = parser.parse_args()
    now = measured()
    found = differences(kept() if FILE.exists() else {}, now)
    print("\n".join(found) or "as it was")
    if parsed.write:
        others = (
            {name: group for name, group in kept().items() if name.startswith("python")}
            if FILE.exists()
            else {}
        )
        FILE.write_text(json.dumps(others | now, indent=2) + "\n")
    elif found:
        sys.exit(1)


if __name__ == "__main__":
    main()
