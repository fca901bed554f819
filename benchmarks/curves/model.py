"""What a curve is: figures at several sizes of one thing."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from benchmarks.model import Figure, Options, Values


@dataclass(frozen=True, slots=True)
class Curve:
    """Figures at each of `points`; the first is what the others are held against.

    `run` yields the figures of one run at a point, `runs` times for each point that it is given (ascending).
    """

    name: str
    #: What is counted at a point: "tasks waiting".
    what: str
    summary: str
    points: tuple[int, ...]
    figures: tuple[Figure, ...]
    run: Callable[[Options, Sequence[int], int], AsyncIterator[tuple[int, Values]]]
    limit_s: float = 600.0


def drain_figure(what: str) -> Figure:
    """Return the figure that most curves share."""
    return Figure("drain_rate", "tasks/s", f"Drain of {what} due at one instant.")
