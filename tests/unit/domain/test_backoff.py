"""The wait before the n-th retry or repetition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain.backoff import HOUR_MS, LONGEST_WAIT_MS, cap_ms, delay_ms, retry_after_cap_ms
from kuueri_grpc.domain.task import Backoff, Growth
from tests.unit.domain.strategies import backoffs, draws

counts = st.integers(min_value=1, max_value=2_000_000)


@pytest.mark.parametrize(
    ("growth", "waits"),
    [
        (Growth.CONSTANT, [250, 250, 250, 250, 250]),
        (Growth.LINEAR, [250, 500, 750, 1_000, 1_250]),
        (Growth.EXPONENTIAL, [250, 500, 1_000, 2_000, 4_000]),
    ],
)
def test_growth(growth: Growth, waits: list[int]) -> None:
    backoff = Backoff(interval_ms=250, growth=growth)
    assert [delay_ms(backoff, n, draw=0.9) for n in range(1, 6)] == waits


@pytest.mark.parametrize("n", [0, -1])
def test_n_counts_from_one(n: int) -> None:
    with pytest.raises(ValueError, match=f"n counts from 1, got {n}"):
        delay_ms(Backoff(), n, draw=0.0)


@pytest.mark.parametrize(
    ("backoff", "longest"),
    [
        (Backoff(60_000, Growth.EXPONENTIAL), HOUR_MS),
        (Backoff(2 * HOUR_MS, Growth.EXPONENTIAL), 2 * HOUR_MS),
        (Backoff(60_000, Growth.EXPONENTIAL, max_interval_ms=3 * HOUR_MS), 3 * HOUR_MS),
        (Backoff(1, Growth.EXPONENTIAL, max_interval_ms=2 * LONGEST_WAIT_MS), LONGEST_WAIT_MS),
        (Backoff(60_000, Growth.LINEAR), LONGEST_WAIT_MS),
        (Backoff(60_000, Growth.LINEAR, max_interval_ms=90_000), 90_000),
        (Backoff(60_000, Growth.CONSTANT), 60_000),
        (Backoff(2 * LONGEST_WAIT_MS, Growth.CONSTANT), LONGEST_WAIT_MS),
        (Backoff(60_000, Growth.CONSTANT, max_interval_ms=30_000), 30_000),
    ],
)
def test_where_growth_ends(backoff: Backoff, longest: int) -> None:
    assert delay_ms(backoff, 2_000_000, draw=0.0) == longest


@pytest.mark.parametrize(
    ("jitter", "draw", "wait"),
    [
        (0.0, 0.999, 10_000),
        (0.5, 0.0, 10_000),
        (0.5, 0.5, 7_500),
        (1.0, 0.25, 7_500),
        (1.0, 0.999_999_999, 1),
    ],
)
def test_jitter_shortens_by_its_share_of_the_draw(jitter: float, draw: float, wait: int) -> None:
    assert delay_ms(Backoff(10_000, jitter=jitter), 1, draw) == wait


@pytest.mark.parametrize(
    ("backoff", "longest"),
    [
        (Backoff(), HOUR_MS),
        (Backoff(2 * HOUR_MS), HOUR_MS),
        (Backoff(max_interval_ms=5_000), 5_000),
        (Backoff(max_interval_ms=2 * HOUR_MS), 2 * HOUR_MS),
        (Backoff(max_interval_ms=2 * LONGEST_WAIT_MS), LONGEST_WAIT_MS),
    ],
)
def test_bound_of_retry_after(backoff: Backoff, longest: int) -> None:
    assert retry_after_cap_ms(backoff) == longest


@given(backoffs, counts, draws)
def test_a_wait_is_at_least_a_millisecond_and_at_most_the_cap(backoff: Backoff, n: int, draw: float) -> None:
    assert 1 <= delay_ms(backoff, n, draw) <= cap_ms(backoff) <= LONGEST_WAIT_MS


@given(backoffs, counts, counts, draws)
def test_a_later_wait_is_never_shorter(backoff: Backoff, n: int, later: int, draw: float) -> None:
    assert delay_ms(backoff, n, draw) <= delay_ms(backoff, n + later, draw)


@given(backoffs, counts, draws)
def test_jitter_never_lengthens_and_keeps_its_share(backoff: Backoff, n: int, draw: float) -> None:
    without = delay_ms(backoff, n, draw=0.0)
    wait = delay_ms(backoff, n, draw)
    assert wait <= without
    assert wait >= without * (1.0 - backoff.jitter) - 1  # rounded to whole milliseconds


@given(backoffs, counts, draws)
def test_growths_are_ordered(backoff: Backoff, n: int, draw: float) -> None:
    constant, linear, exponential = (
        delay_ms(
            Backoff(backoff.interval_ms, growth, backoff.max_interval_ms or LONGEST_WAIT_MS, backoff.jitter),
            n,
            draw,
        )
        for growth in (Growth.CONSTANT, Growth.LINEAR, Growth.EXPONENTIAL)
    )
    assert constant <= linear <= exponential
