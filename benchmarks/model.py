"""What a scenario is: a way to measure, and the figures that it gives."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TargetKind = Literal["nginx", "python"]
#: Figures of one run by their key.
Values = dict[str, float]


class BenchmarkFailed(Exception):
    """A run that measured nothing worth showing; the text says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that a scenario gives. `digits` after the decimal point are worth showing."""

    key: str
    unit: str
    meaning: str
    digits: int = 0

    def show(self, value: float) -> str:
        """Return a value of it as people read it."""
        return f"{value:,.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is made with. None: what the scenario takes by default."""

    target: TargetKind
    tasks: int | None = None
    seconds: float | None = None
    #: Further arguments of `kuueri serve`, and settings of it by their names in the environment.
    serve_arguments: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Where the profile of the server goes; None: it is not profiled.
    profile: Path | None = None
    native: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to measure. `limit_s` bounds a run with the default options."""

    name: str
    summary: str
    figures: tuple[Figure, ...]
    run: Callable[[Options], Awaitable[Values]]
    limit_s: float = 120.0
