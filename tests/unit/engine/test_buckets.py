"""Token buckets on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.engine.buckets import Buckets, Rate


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(buckets: Buckets, key: str = "a", tries: int = 100) -> int:
    return sum(buckets.take(key) == 0 for _ in range(tries))


def test_a_bucket_is_full_at_first_and_fills_up_in_a_window(clock: Clock) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    assert taken(buckets) == 10
    clock.now += 18
    assert taken(buckets) == 3
    clock.now += 1_000
    assert taken(buckets) == 10


def test_who_is_refused_is_told_when_to_come_back(clock: Clock) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    assert buckets.wait_s("a") == 0
    taken(buckets)
    assert buckets.take("a") == pytest.approx(6)
    assert buckets.wait_s("a") == pytest.approx(6)
    clock.now += 5.9
    assert buckets.take("a") == pytest.approx(0.1)
    clock.now += 0.1
    assert buckets.take("a") == 0


def test_keys_do_not_know_of_each_other(clock: Clock) -> None:
    buckets = Buckets(Rate(2, 1), clock=clock)
    assert taken(buckets, "a") == 2
    assert taken(buckets, "b") == 2


def test_a_charge_is_taken_whether_it_is_there_or_not(clock: Clock) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    buckets.charge("a", 4)
    assert taken(buckets) == 6
    buckets.charge("a", 2)
    assert buckets.take("a") == pytest.approx(18)


def test_what_is_overdrawn_is_filled_up_in_full(clock: Clock) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    buckets.charge("a", 1_000)
    assert buckets.take("a") == pytest.approx(991 * 6)


def test_more_is_taken_whole_or_not_at_all(clock: Clock) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    assert taken(buckets, tries=5) == 5
    assert buckets.take_more("a", 6) == pytest.approx(12)
    assert taken(buckets, tries=1) == 1
    assert buckets.take_more("a", 4) == 0
    assert buckets.take("a") > 0


def test_more_than_a_bucket_holds_is_taken_from_a_full_one(clock: Clock) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    assert taken(buckets, tries=2) == 2
    assert buckets.take_more("a", 99) == pytest.approx(12)
    clock.now += 6
    assert buckets.take_more("a", 99) == 0
    assert buckets.take("a") == pytest.approx(91 * 6)
    clock.now += 91 * 6
    assert taken(buckets, tries=2) == 1


@pytest.mark.parametrize("size", [2, 5, 10, 99])
def test_a_batch_that_waits_as_long_as_it_was_told_is_taken(clock: Clock, size: int) -> None:
    buckets = Buckets(Rate(10, 60), clock=clock)
    assert taken(buckets) == 10
    for _ in range(3):
        # The call itself takes one each time, also where its batch is refused.
        clock.now += buckets.take("a")
        assert buckets.take("a") == 0
        clock.now += buckets.take_more("a", size - 1)
        assert buckets.take("a") == 0
        assert buckets.take_more("a", size - 1) == 0


@given(
    limit=st.integers(1, 50),
    batches=st.lists(st.tuples(st.floats(0, 50), st.integers(1, 200)), min_size=1, max_size=60),
)
def test_batches_come_to_no_more_than_the_rate(limit: int, batches: list[tuple[float, int]]) -> None:
    """At any time: what the time has given, and a full bucket or one batch."""
    clock = Clock()
    buckets = Buckets(Rate(limit, 60), clock=clock)
    began, done, largest = clock.now, 0, limit
    for pause, size in batches:
        clock.now += pause
        if buckets.take("a"):
            continue
        done += 1
        if size > 1 and not buckets.take_more("a", size - 1):
            done, largest = done + size - 1, max(largest, size)
        assert done <= largest + (clock.now - began) * limit / 60 + 1e-6


def test_the_buckets_least_used_go_when_there_are_too_many(clock: Clock) -> None:
    buckets = Buckets(Rate(1, 60), most=3, clock=clock)
    for key in ("a", "b", "c"):
        assert taken(buckets, key) == 1
    buckets.charge("a", 1)
    assert taken(buckets, "d") == 1
    assert len(buckets) == 3
    assert [buckets.wait_s(key) > 0 for key in "abcd"] == [True, False, True, True]


@given(
    limit=st.integers(1, 50),
    window_s=st.floats(0.1, 100),
    pauses=st.lists(st.floats(0, 50), max_size=60),
)
def test_no_window_has_more_than_twice_the_limit_and_the_rate_is_kept(
    limit: int, window_s: float, pauses: list[float]
) -> None:
    clock = Clock()
    buckets = Buckets(Rate(limit, window_s), clock=clock)
    instants = []
    for pause in pauses:
        clock.now += pause
        while buckets.take("a") == 0:
            instants.append(clock.now)
    for i, start in enumerate(instants):
        for count, end in enumerate(instants[i:], 1):
            assert count <= limit * (1 + (end - start) / window_s) + 1e-3
