"""The command line of the benchmarks."""

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import machine, report
from benchmarks.full import cli as full
from benchmarks.harness.interrupt import interruptible
from benchmarks.harness.profile import shares
from benchmarks.harness.target import default_target
from benchmarks.model import BenchmarkFailed, Options, Scenario, Values
from benchmarks.scenarios import SCENARIOS

_TOP = 25
_EPILOG = """\
`python -m benchmarks full` measures everything, beside other systems too, and draws it: see its --help.
Each run has a new server on an empty store, a new target and new clients, on free ports of this machine,
and takes them away again. What follows -- is handed to `kuueri serve`. Run it on an idle machine.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["full"]:
        full.main(given[1:])
        return
    place = given.index("--") if "--" in given else len(given)
    parsed = _parser().parse_args(given[:place])
    scenarios = [SCENARIOS[name] for name in parsed.scenario or SCENARIOS]
    if parsed.figures:
        print(report.figures_as_markdown(scenarios))
        return
    options = _options(parsed, tuple(given[place + 1 :]))
    try:
        uvloop.run(interruptible(_run(scenarios, options, parsed)))
    except BenchmarkFailed as error:
        sys.exit(f"error: {error}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("stopped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the server from outside.", epilog=_EPILOG
    )
    parser.add_argument(
        "scenario",
        nargs="*",
        type=_scenario,
        metavar="SCENARIO",
        help=f"what to measure, of {', '.join(SCENARIOS)}; all of them unless given",
    )
    parser.add_argument("--repeat", type=_positive, default=1, metavar="N", help="runs of each scenario")
    parser.add_argument(
        "--tasks", type=_positive, metavar="N", help="tasks instead of a scenario's own number"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="span of the due times of spread and watch, length of the look at idle",
    )
    parser.add_argument(
        "--target",
        choices=["nginx", "python"],
        default=default_target(),
        help="where tasks are sent; nginx unless it is not installed",
    )
    parser.add_argument(
        "--set",
        action="append",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the server by its name in the environment, such as TASKS_SERVICE__LEASE_MS=5000",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--markdown", action="store_true", help="print the section of docs/benchmarks.md")
    output.add_argument("--figures", action="store_true", help="print what the figures mean, measure nothing")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="profile the server through one burst with py-spy into FILE (folded stacks), and print the "
        f"{_TOP} functions that took most time themselves",
    )
    parser.add_argument("--native", action="store_true", help="with --profile: C and C++ functions too")
    return parser


def _scenario(text: str) -> str:
    # Not by `choices`: argparse checks the empty list against them too.
    if text not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(SCENARIOS)}, got {text!r}")
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (separator and name.startswith("TASKS_")):
        raise argparse.ArgumentTypeError(f"expected TASKS_NAME=VALUE, got {text!r}")
    return name, value


def _options(parsed: argparse.Namespace, serve_arguments: tuple[str, ...]) -> Options:
    if parsed.profile is not None and (parsed.scenario != ["burst"] or parsed.repeat > 1):
        sys.exit("error: --profile is for one run of burst: burst --profile FILE")
    return Options(
        target=parsed.target,
        tasks=parsed.tasks,
        seconds=parsed.seconds,
        serve_arguments=serve_arguments,
        settings=dict(parsed.set),
        profile=parsed.profile,
        native=parsed.native,
    )


async def _run(scenarios: Sequence[Scenario], options: Options, parsed: argparse.Namespace) -> None:
    about = {**machine.describe(options.target), "options": _deviations(options) or "none"}
    as_text = not (parsed.json or parsed.markdown)
    if as_text:
        print(report.machine_as_text(about), flush=True)
    results: dict[str, list[Values]] = {}
    try:
        for scenario in scenarios:
            results[scenario.name] = [await _measure(scenario, options) for _ in range(parsed.repeat)]
            if as_text:
                print(f"\n{report.as_text(scenario, results[scenario.name])}", flush=True)
    finally:
        # What was measured before a run failed, or before Ctrl-C, is not thrown away.
        if parsed.json:
            print(report.as_json(about, _given(options), results))
        elif parsed.markdown:
            print(report.as_markdown(about, [s for s in scenarios if s.name in results], results))
    if options.profile is not None:
        lines = options.profile.read_text(encoding="utf-8").splitlines()
        note = (
            f"stacks are in {options.profile}; py-spy slows the server, so take no other figure from this run"
        )
        print(
            f"\n{note}\n{report.profile_as_text(shares(lines), _TOP)}",
            file=sys.stderr if parsed.json else None,
        )


async def _measure(scenario: Scenario, options: Options) -> Values:
    """Run a scenario once, within its time."""
    limit_s = scenario.limit_s + (options.seconds or 0) + (options.tasks or 0) / 500
    try:
        async with asyncio.timeout(limit_s):
            return await scenario.run(options)
    except TimeoutError:
        raise BenchmarkFailed(f"{scenario.name} did not end within {limit_s:g} s") from None


def _deviations(options: Options) -> str:
    """Return in words what makes the runs other than the scenarios' summaries say."""
    given = [f"--tasks {options.tasks}"] if options.tasks else []
    given += [f"--seconds {options.seconds:g}"] if options.seconds else []
    given += [f"{name}={value}" for name, value in options.settings.items()]
    return " ".join([*given, *options.serve_arguments])


def _given(options: Options) -> dict[str, Any]:
    given = dataclasses.asdict(options)
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
