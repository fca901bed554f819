from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.statistics import percentile, spread_evenly

_ORDERED = st.lists(st.integers(0, 1_000), min_size=1, max_size=300).map(sorted)
_PERCENT = st.integers(1, 1_000).map(lambda tenths: tenths / 10)


@pytest.mark.parametrize(
    ("percent", "expected"), [(20, 15), (21, 20), (40, 20), (50, 35), (99, 50), (100, 50), (0.1, 15)]
)
def test_nearest_rank(percent: float, expected: int) -> None:
    assert percentile([15, 20, 35, 40, 50], percent) == expected


@pytest.mark.parametrize(
    ("count", "percent", "rank"), [(1_000, 99.9, 999), (1_000, 99, 990), (3_000, 99, 2_970), (3_000, 1.1, 33)]
)
def test_ranks_that_are_whole_in_decimal_are_not_one_further(count: int, percent: float, rank: int) -> None:
    assert percentile(range(1, count + 1), percent) == rank


@given(_ORDERED, _PERCENT)
def test_at_least_so_many_do_not_exceed_it_and_of_the_next_smaller_one_fewer(
    ordered: list[int], percent: float
) -> None:
    found = percentile(ordered, percent)
    share = percent / 100 * len(ordered)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share - 1e-6
    assert sum(value < found for value in ordered) < share


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_refuses_what_is_no_percentage(percent: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percentile([1], percent)


def test_refuses_no_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_spread_evenly() -> None:
    assert spread_evenly(4, 1_000, 30) == [1_000, 1_007, 1_015, 1_022]


@given(st.integers(1, 500), st.integers(0, 100_000))
def test_spread_evenly_stays_within_the_span(count: int, span_ms: int) -> None:
    instants = spread_evenly(count, 5, span_ms)
    assert len(instants) == count
    assert instants[0] == 5
    assert instants == sorted(instants)
    assert instants[-1] <= 5 + span_ms
    steps = {later - earlier for earlier, later in pairwise(instants)}
    assert not steps or max(steps) - min(steps) <= 1
