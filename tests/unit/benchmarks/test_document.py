"""docs/benchmarks.md explains every figure, as the benchmarks themselves do."""

from pathlib import Path

from benchmarks import report
from benchmarks.scenarios import SCENARIOS

DOCUMENT = Path(__file__).parents[3] / "docs/benchmarks.md"


def test_the_document_has_what_the_figures_mean() -> None:
    expected = report.figures_as_markdown(SCENARIOS.values())
    # `python -m benchmarks --figures` prints it.
    assert expected in DOCUMENT.read_text(encoding="utf-8")


def test_figures_of_a_scenario_have_different_keys() -> None:
    for scenario in SCENARIOS.values():
        keys = [figure.key for figure in scenario.figures]
        assert len(keys) == len(set(keys)), scenario.name
