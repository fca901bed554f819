"""Results as people, documents and programs read them."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harness.profile import Share
from benchmarks.model import Scenario, Values

#: The runs of each scenario.
Results = Mapping[str, Sequence[Values]]
Machine = Mapping[str, str]

_MARKDOWN_HEADER = ("figure", "median", "all runs", "unit")


def as_text(scenario: Scenario, runs: Sequence[Values]) -> str:
    """Return the runs of one scenario as a table for a terminal."""
    rows = [_row(scenario, runs, key) for key in _keys(scenario)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{scenario.name}: {scenario.summary}"]
    for name, median, values, unit in rows:
        spread = f"  [{values}]" if len(runs) > 1 else ""
        lines.append(f"  {name:<{widths[0]}}  {median:>{widths[1]}} {unit:<{widths[3]}}{spread}".rstrip())
    return "\n".join(lines)


def machine_as_text(machine: Machine) -> str:
    """Return the machine as a table for a terminal."""
    width = max(map(len, machine))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in machine.items())


def as_markdown(machine: Machine, scenarios: Iterable[Scenario], results: Results) -> str:
    """Return everything as the section of a document."""
    lines = ["## Measured", ""]
    lines += markdown_table(("machine", ""), list(machine.items()))
    for scenario in scenarios:
        runs = results[scenario.name]
        lines += ["", f"### {scenario.name}", "", f"{scenario.summary}; {_times(len(runs))}.", ""]
        lines += markdown_table(_MARKDOWN_HEADER, [_row(scenario, runs, key) for key in _keys(scenario)])
    return "\n".join(lines)


def as_json(machine: Machine, options: Mapping[str, Any], results: Results) -> str:
    """Return everything as JSON; figures by the keys that `figures_as_markdown` explains."""
    scenarios = {
        name: {key: {"median": _median(runs, key), "runs": [run[key] for run in runs]} for key in runs[0]}
        for name, runs in results.items()
    }
    return json.dumps({"machine": machine, "options": options, "scenarios": scenarios}, indent=2)


def figures_as_markdown(scenarios: Iterable[Scenario]) -> str:
    """Return what each figure means, as the section of a document."""
    lines = ["## Figures"]
    for scenario in scenarios:
        lines += ["", f"### {scenario.name}", "", f"{scenario.summary}.", ""]
        rows = [(f"`{figure.key}`", figure.unit, figure.meaning) for figure in scenario.figures]
        lines += markdown_table(("figure", "unit", "meaning"), rows)
    return "\n".join(lines)


def profile_as_text(shares: Sequence[Share], count: int) -> str:
    """Return the functions that most time was spent in themselves."""
    lines = [f"{'own %':>6}  {'total %':>7}  function"]
    lines += [
        f"{share.own_percent:6.1f}  {share.total_percent:7.1f}  {share.function}" for share in shares[:count]
    ]
    return "\n".join(lines)


def _keys(scenario: Scenario) -> list[str]:
    return [figure.key for figure in scenario.figures]


def _row(scenario: Scenario, runs: Sequence[Values], key: str) -> tuple[str, str, str, str]:
    (figure,) = (figure for figure in scenario.figures if figure.key == key)
    values = " ".join(figure.show(run[key]) for run in runs)
    return key, figure.show(_median(runs, key)), values, figure.unit


def _median(runs: Sequence[Values], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _times(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table, line by line."""
    return [_markdown_row(row) for row in (header, ["---"] * len(header), *rows)]


def _markdown_row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"
