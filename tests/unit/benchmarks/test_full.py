"""A full run's results: kept, divided, written into the document."""

from pathlib import Path

import pytest

from benchmarks.curves import CURVES
from benchmarks.full import document
from benchmarks.full.costs import dispatch_share, entitled
from benchmarks.full.peers import OURS, WORKLOADS
from benchmarks.full.ratios import ratios
from benchmarks.full.results import Results, Spread, together
from benchmarks.full.run import SCENARIOS_OF_A_FULL_RUN
from benchmarks.model import BenchmarkFailed
from benchmarks.scenarios import SCENARIOS

DOCUMENT = Path(__file__).parents[3] / "docs/performance.md"


def results() -> Results:
    ours = together(
        [{"drain": 6_000.0, "cpu": 100.0, "lost": 0.0}, {"drain": 8_000.0, "cpu": 110.0, "lost": 0.0}]
    )
    theirs = together([{"drain": 3_500.0, "cpu": 315.0, "lost": 1.0}])
    return Results(
        machine={"cores": "2"},
        peers={"burst, 1 worker": {OURS: ours, "other": theirs}},
        curves={"queues": {1: together([{"drain_rate": 8_000.0}]), 100: together([{"drain_rate": 6_000.0}])}},
        costs={"script": (12.5, "store")},
        missing=["curves: projects: it did not end"],
    )


def test_a_spread_is_the_median_with_its_ends() -> None:
    spread = Spread.of([3.0, 1.0, 2.25])
    assert (spread.median, spread.least, spread.most) == (2.25, 1.0, 3.0)
    assert spread.show(1) == "2.2 (1.0 - 3.0)"
    assert Spread.of([1_234.0]).show() == "1,234"


def test_a_ratio_above_one_is_better_whether_more_or_less_is() -> None:
    assert {row.compared.key: row.ratio for row in ratios(results())} == {"drain": 2.0, "cpu": 3.0}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results().write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results()


def test_the_document_is_renewed_between_its_marks_alone(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n")
    document.renew(path, document.markdown(results(), "pictures", has_profile=True))
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    for wanted in (
        "**2.00**",
        "| `drain_rate` | **0.75** |",
        "pictures/flame.svg",
        "other 1 tasks",
        "did not end",
    ):
        assert wanted in text


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text("no marks\n")
    with pytest.raises(BenchmarkFailed, match="has no"):
        document.renew(path, "section")
    assert path.read_text() == "no marks\n"


def test_the_document_of_the_repository_has_the_marks() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.index(document.BEGIN) < text.index(document.END)


def test_dispatch_is_what_the_dispatcher_is_in_or_has_called() -> None:
    folded = [
        "run (a.py);send (kuueri_grpc/dispatcher/http.py);write (aiohttp/client.py) 30",
        "run (a.py);claim (kuueri_grpc/engine/claims.py) 70",
    ]
    assert dispatch_share(folded) == pytest.approx(0.3)
    with pytest.raises(BenchmarkFailed):
        dispatch_share([])


def test_what_is_compared_is_among_the_figures_of_the_scenario() -> None:
    for workload in WORKLOADS:
        keys = {figure.key for figure in SCENARIOS[workload.scenario].figures}
        assert {compared.ours for compared in workload.compared} <= keys, workload.name


def test_a_full_run_knows_its_scenarios_and_its_curves_ascend() -> None:
    assert set(SCENARIOS_OF_A_FULL_RUN) <= set(SCENARIOS)
    for curve in CURVES.values():
        assert list(curve.points) == sorted(set(curve.points)), curve.name


def test_a_flame_graph_does_not_tell_where_it_was_made() -> None:
    svg = "<text>/home/me/bin/py-spy record --pid 1 -o /home/me/x.svg</text><title>send (http.py)</title>"

    assert entitled(svg) == "<text>A worker through a burst, by py-spy</text><title>send (http.py)</title>"
