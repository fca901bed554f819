"""The little arithmetic that the figures need."""

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the least value that at least `percent` % of them do not exceed.

    It is one of the values, never something between two of them.

    Args:
        ordered: values in ascending order.
        percent: above 0, up to 100.

    Raises:
        ValueError: there are no values, or `percent` is out of range.
    """
    if not ordered:
        raise ValueError("no values have no percentile")
    if not 0 < percent <= 100:
        raise ValueError(f"expected a percentage above 0, up to 100, got {percent}")
    # Rounded first: 1.1 % of 3,000 comes out a little over 33 in binary, and would give the 34th.
    return ordered[math.ceil(round(percent * len(ordered) / 100, 9)) - 1]


def spread_evenly(count: int, start_ms: int, span_ms: int) -> list[int]:
    """Return `count` instants (ms) that divide the span after `start_ms` evenly, the first at its start."""
    return [start_ms + index * span_ms // count for index in range(count)]
