"""What a full run has measured, as it is kept in `results.json`."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.curves.model import Curve
from benchmarks.model import Figure, Values


@dataclass(frozen=True, slots=True)
class Spread:
    """The runs of one figure."""

    median: float
    least: float
    most: float
    runs: Sequence[float]

    @classmethod
    def of(cls, runs: Iterable[float]) -> Self:
        """Return what runs, one or more, come to."""
        values = list(runs)
        return cls(statistics.median(values), min(values), max(values), values)

    def show(self, digits: int = 0) -> str:
        """Return it as people read it: the median, and from where to where the runs went."""
        median = f"{self.median:,.{digits}f}"
        if len(self.runs) == 1:
            return median
        return f"{median} ({self.least:,.{digits}f} - {self.most:,.{digits}f})"


Spreads = dict[str, Spread]


@dataclass(slots=True)
class Results:
    """All figures. `peers`: workload -> system -> figure; `curves`: curve -> point -> figure."""

    machine: dict[str, str]
    peers: dict[str, dict[str, Spreads]] = field(default_factory=dict)
    scenarios: dict[str, Spreads] = field(default_factory=dict)
    curves: dict[str, dict[int, Spreads]] = field(default_factory=dict)
    #: Step -> (us of CPU per task, how that was measured).
    costs: dict[str, tuple[float, str]] = field(default_factory=dict)
    #: What could not be measured, and why.
    missing: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        document["peers"] = {
            workload: {system: _spreads(figures) for system, figures in systems.items()}
            for workload, systems in document["peers"].items()
        }
        document["scenarios"] = {name: _spreads(figures) for name, figures in document["scenarios"].items()}
        document["curves"] = {
            name: {int(point): _spreads(figures) for point, figures in points.items()}
            for name, points in document["curves"].items()
        }
        document["costs"] = {name: (us, how) for name, (us, how) in document["costs"].items()}
        return cls(**document)


def measured(curve: Curve, points: Mapping[int, Spreads]) -> list[Figure]:
    """Return the figures of a curve that there are at each of its points."""
    return [figure for figure in curve.figures if all(figure.key in point for point in points.values())]


def together(runs: Sequence[Values]) -> Spreads:
    """Return the figures that all of the runs gave."""
    return {key: Spread.of(run[key] for run in runs) for key in runs[0] if all(key in run for run in runs)}


def _spreads(document: dict[str, Any]) -> Spreads:
    return {key: Spread(**spread) for key, spread in document.items()}
