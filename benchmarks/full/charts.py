"""The curves and the comparison as PNG; by matplotlib, of the dependency group `bench`."""

from pathlib import Path
from typing import Any

from benchmarks.curves import CURVES
from benchmarks.full.ratios import ratios
from benchmarks.full.results import Results, measured
from benchmarks.model import BenchmarkFailed

try:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
except ImportError as error:
    raise BenchmarkFailed(f"charts need matplotlib, of the dependency group bench: {error}") from error

_DPI = 110
_LOG_FROM = 50


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw all that the results have, and return the files."""
    drawn = [_curve(results, name, folder) for name in results.curves]
    if ratios(results):
        drawn.append(_ratios(results, folder))
    return drawn


def _curve(results: Results, name: str, folder: Path) -> Path:
    curve, points = CURVES[name], results.curves[name]
    sizes = sorted(points)
    figures = measured(curve, points)
    figure, axes = plt.subplots(
        1, len(figures), figsize=(3.4 * len(figures), 3.0), squeeze=False, layout="constrained"
    )
    for axis, shown in zip(axes[0], figures, strict=True):
        spreads = [points[size][shown.key] for size in sizes]
        medians = [spread.median for spread in spreads]
        below = [spread.median - spread.least for spread in spreads]
        above = [spread.most - spread.median for spread in spreads]
        axis.errorbar(sizes, medians, yerr=[below, above], marker="o", markersize=4, capsize=3)
        if sizes[-1] >= _LOG_FROM * sizes[0]:
            axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xlabel(curve.what)
        axis.set_title(f"{shown.key}, {shown.unit}", fontsize=9)
        axis.grid(alpha=0.3)
    return _save(figure, folder / f"curve-{name}.png")


def _ratios(results: Results, folder: Path) -> Path:
    rows = list(reversed(ratios(results)))
    figure, axis = plt.subplots(figsize=(7.5, 0.7 + 0.32 * len(rows)), layout="constrained")
    bars = axis.barh(
        [f"{row.workload}: {row.compared.meaning.lower()}, against {row.peer}" for row in rows],
        [row.ratio for row in rows],
        color=["tab:green" if row.ratio >= 1 else "tab:red" for row in rows],
    )
    axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axis.axvline(1.0, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.margins(x=0.15)
    axis.set_xlabel("how many times better; 1 is as good")
    axis.tick_params(axis="y", labelsize=8)
    return _save(figure, folder / "ratios.png")


def _save(figure: Any, path: Path) -> Path:
    # Without the version of the library: the same figures give the same file.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    plt.close(figure)
    return path
