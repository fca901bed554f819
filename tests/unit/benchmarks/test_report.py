import json

from benchmarks import report
from benchmarks.model import Figure, Options, Scenario, Values


async def _run(options: Options) -> Values:
    raise NotImplementedError


SCENARIO = Scenario(
    "drill", "three tasks", (Figure("rate", "tasks/s", "Rate."), Figure("late", "ms", "Lateness.", 1)), _run
)
RUNS = [{"rate": 1_200.4, "late": 1.0}, {"rate": 900.0, "late": 4.25}, {"rate": 1_000.0, "late": 2.0}]


def test_text_shows_the_median_and_every_run() -> None:
    assert report.as_text(SCENARIO, RUNS).splitlines() == [
        "drill: three tasks",
        "  rate  1,000 tasks/s  [1,200 900 1,000]",
        "  late    2.0 ms       [1.0 4.2 2.0]",
    ]


def test_markdown_is_a_section_with_a_table_for_each_scenario() -> None:
    assert report.as_markdown({"cores": "2"}, [SCENARIO], {"drill": RUNS[:1]}).splitlines() == [
        "## Measured",
        "",
        "| machine | |",
        "| --- | --- |",
        "| cores | 2 |",
        "",
        "### drill",
        "",
        "three tasks; one run.",
        "",
        "| figure | median | all runs | unit |",
        "| --- | --- | --- | --- |",
        "| rate | 1,200 | 1,200 | tasks/s |",
        "| late | 1.0 | 1.0 | ms |",
    ]


def test_json_has_unrounded_values() -> None:
    document = json.loads(report.as_json({"cores": "2"}, {"tasks": None}, {"drill": RUNS}))
    assert document["scenarios"]["drill"]["late"] == {"median": 2.0, "runs": [1.0, 4.25, 2.0]}
    assert document["machine"] == {"cores": "2"}
