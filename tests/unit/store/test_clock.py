"""The store's clock, carried forward by a monotonic clock that the test turns itself."""

import pytest

from kuueri_grpc.store import clock as clock_module
from kuueri_grpc.store.clock import StoreClock

STORE_MS = 1_800_000_000_000


class Hands:
    """The host's clocks."""

    def __init__(self) -> None:
        self.monotonic_s = 1_000.0
        self.wall_ms = 5_000

    def monotonic(self) -> float:
        return self.monotonic_s

    def time_ns(self) -> int:
        return self.wall_ms * 1_000_000


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock_module, "time", hands)
    return hands


def test_before_the_first_reading_it_is_the_host_s(hands: Hands) -> None:
    assert StoreClock().now_ms() == 5_000


def test_it_goes_on_from_a_reading(hands: Hands) -> None:
    clock = StoreClock()
    clock.observe(STORE_MS)
    assert clock.now_ms() == STORE_MS

    hands.monotonic_s += 1.5

    assert clock.now_ms() == STORE_MS + 1_500


def test_a_change_of_the_host_s_clock_moves_nothing(hands: Hands) -> None:
    clock = StoreClock()
    clock.observe(STORE_MS)

    hands.wall_ms += 300_000

    assert clock.now_ms() == STORE_MS


def test_a_slow_answer_does_not_set_it_back(hands: Hands) -> None:
    """The reading is as old as its answer was on its way."""
    clock = StoreClock()
    clock.observe(STORE_MS)
    hands.monotonic_s += 1.0

    clock.observe(STORE_MS + 700)  # 300 ms on its way

    assert STORE_MS + 990 <= clock.now_ms() <= STORE_MS + 1_000


def test_a_fast_answer_sets_it_right_at_once(hands: Hands) -> None:
    clock = StoreClock()
    clock.observe(STORE_MS)
    hands.monotonic_s += 1.0

    clock.observe(STORE_MS + 1_400)

    assert clock.now_ms() == STORE_MS + 1_400


def test_it_follows_a_store_whose_clock_is_slower_than_the_host_s(hands: Hands) -> None:
    clock = StoreClock()
    clock.observe(STORE_MS)
    for second in range(1, 1_001):
        hands.monotonic_s += 1.0
        clock.observe(STORE_MS + second * 1_000 - second // 10)  # a tenth of a millisecond per second

    assert abs(clock.now_ms() - (STORE_MS + 1_000_000 - 100)) <= 10


@pytest.mark.parametrize("step_ms", [-3_600_000, -1_500, 1_500, 3_600_000])
def test_a_store_whose_clock_was_set_is_followed_at_once(hands: Hands, step_ms: int) -> None:
    clock = StoreClock()
    clock.observe(STORE_MS)

    clock.observe(STORE_MS + step_ms)

    assert clock.now_ms() == STORE_MS + step_ms
