"""Results as Markdown: what `docs/performance.md` has between its two marks."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.curves import CURVES
from benchmarks.full.peers import OURS, WORKLOADS
from benchmarks.full.ratios import ratios
from benchmarks.full.results import Results, measured
from benchmarks.model import BenchmarkFailed
from benchmarks.report import markdown_table
from benchmarks.scenarios import SCENARIOS

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def markdown(results: Results, pictures: str, has_profile: bool) -> str:
    """Return everything; pictures are in the folder `pictures`, as seen from the document."""
    parts = [
        *_ratios(results, pictures),
        *_curves(results, pictures),
        *_scenarios(results),
        *_costs(results, pictures if has_profile else None),
        *_missing(results),
        *_machine(results),
    ]
    return "\n".join(parts)


def renew(path: Path, section: str) -> None:
    """Put a section between the marks of a document. Raises `BenchmarkFailed`: it has no marks."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchmarkFailed(f"{path} has no {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}", encoding="utf-8")


def _ratios(results: Results, pictures: str) -> list[str]:
    rows = ratios(results)
    lines = ["## Ratios", ""]
    bare = results.scenarios.get("bare")
    if bare:
        lines += [
            "Subscribe, authenticated, validated, encrypted and stored, beside a grpc.aio handler that does",
            f"nothing but one script call on the same store (`bare`): **{bare['ratio'].show()} %** of it.",
            "",
        ]
    if rows:
        lines += [
            "Each beside another system on the same tasks, run in turns; above 1, ours is so many times",
            "better. The median of the runs, and from where to where they went.",
            "",
            *markdown_table(
                ("workload", "figure", "against", "ratio", "ours", "theirs", "unit"),
                [
                    (
                        row.workload,
                        row.compared.meaning,
                        row.peer,
                        f"**{row.ratio:.2f}**",
                        row.ours.show(row.compared.digits),
                        row.theirs.show(row.compared.digits),
                        row.compared.unit,
                    )
                    for row in rows
                ],
            ),
            "",
            f"![ratios]({pictures}/ratios.png)",
            "",
            *(f"- {workload.name}: {workload.summary}." for workload in WORKLOADS),
            "",
            "Ours is called over gRPC with a token, and seals what it stores. A library that writes to the",
            "store from the caller's process does neither: that is in the ratios of `accept`.",
            "CPU of the workers is not counted alike: ours from the due time on, theirs from the first task",
            "enqueued on: the ratio flatters ours by what their workers do meanwhile. Stores sync as each",
            "system is set up: ours as it is by default, the harness's as its own page says.",
            "",
            f"Lost: {_lost(results)}.",
            "",
        ]
    return lines


def _lost(results: Results) -> str:
    lost: dict[str, float] = {}
    for systems in results.peers.values():
        for system, figures in systems.items():
            if "lost" in figures:
                lost[system] = lost.get(system, 0) + sum(figures["lost"].runs)
    return ", ".join(f"{system} {count:,.0f} tasks" for system, count in lost.items())


def _curves(results: Results, pictures: str) -> list[str]:
    lines = ["## What grows, and what it costs", ""] if results.curves else []
    for name, points in results.curves.items():
        curve = CURVES[name]
        sizes = sorted(points)
        lines += [
            f"### {curve.what.capitalize()}",
            "",
            f"{curve.summary}.",
            "",
            f"![{name}]({pictures}/curve-{name}.png)",
            "",
        ]
        first = points[sizes[0]]
        rows = []
        for figure in measured(curve, points):
            end = points[sizes[-1]][figure.key].median
            start = first[figure.key].median
            ratio = f"{end / start:.2f}" if start > 0 and end > 0 else "-"
            shown = [points[size][figure.key].show(figure.digits) for size in sizes]
            rows.append((f"`{figure.key}`", f"**{ratio}**", *shown, figure.unit))
        lines += [
            *markdown_table(("figure", "last over first", *(f"{size:,}" for size in sizes), "unit"), rows),
            "",
        ]
    return lines


def _scenarios(results: Results) -> list[str]:
    lines = (
        ["## Scenarios", "", "[benchmarks.md](benchmarks.md#figures) says what each figure means.", ""]
        if results.scenarios
        else []
    )
    for name, figures in results.scenarios.items():
        scenario = SCENARIOS[name]
        rows = [
            (f"`{figure.key}`", figures[figure.key].show(figure.digits), figure.unit)
            for figure in scenario.figures
            if figure.key in figures
        ]
        lines += [
            f"### {name}",
            "",
            f"{scenario.summary}.",
            "",
            *markdown_table(("figure", "median (least - most)", "unit"), rows),
            "",
        ]
    return lines


def _costs(results: Results, pictures: str | None) -> list[str]:
    if not results.costs:
        return []
    lines = ["## CPU of a task", "", "In the order in which a task goes through them.", ""]
    lines += markdown_table(
        ("step", "us/task", "what is measured"),
        [(name, f"{us:,.1f}", how) for name, (us, how) in results.costs.items()],
    )
    if pictures is not None:
        lines += [
            "",
            f"[Flame graph]({pictures}/flame.svg) of a worker through a burst, by py-spy;",
            "width is time in which Python ran.",
            "",
            f"![flame graph]({pictures}/flame.svg)",
        ]
    return [*lines, ""]


def _missing(results: Results) -> list[str]:
    return [*(f"Not measured: {text}." for text in results.missing), ""] if results.missing else []


def _machine(results: Results) -> list[str]:
    took = [("full run", f"{results.took_s / 60:.0f} min")]
    return ["## Machine", "", *markdown_table(("machine", ""), [*results.machine.items(), *took])]


def summary(results: Results) -> Sequence[str]:
    """Return the ratios as lines for a terminal."""
    lines = []
    for row in ratios(results):
        ours, theirs = row.ours.show(row.compared.digits), row.theirs.show(row.compared.digits)
        what = f"{row.workload}, {row.compared.meaning.lower()}"
        lines.append(f"{row.ratio:6.2f}  {what}: {OURS} {ours}, {row.peer} {theirs} {row.compared.unit}")
    return lines
