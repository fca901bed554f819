import pytest

from benchmarks.harness.arrivals import Arrival, deliveries

DUE_MS = {"a": 1_000, "b": 1_010, "c": 1_020, "d": 1_030}


def test_counts_each_task_once_and_the_rest_as_duplicates() -> None:
    seen = deliveries(
        [Arrival("a", 1, 1_002.5), Arrival("b", 1, 1_013), Arrival("a", 1, 6_000), Arrival("b", 2, 1_012)],
        DUE_MS,
    )
    assert (seen.expected, seen.arrived, seen.lost, seen.duplicates) == (4, 2, 2, 2)


def test_lateness_is_that_of_the_first_arrival_whatever_the_order_of_the_log() -> None:
    seen = deliveries([Arrival("a", 1, 1_900), Arrival("a", 1, 1_004), Arrival("b", 1, 1_011)], DUE_MS)
    assert list(seen.late_ms) == [1, 4]
    assert seen.lateness(50) == 1
    assert seen.lateness(100) == 4


def test_drain_lasts_from_the_first_due_time_to_the_last_first_arrival() -> None:
    seen = deliveries([Arrival("a", 1, 1_500), Arrival("b", 1, 3_250), Arrival("a", 1, 9_000)], DUE_MS)
    assert seen.drain_s == pytest.approx(2.25)


@pytest.mark.parametrize(("at_ms", "early"), [(999.9, 1), (1_000, 0), (1_000.1, 0)])
def test_early_is_before_the_due_time(at_ms: float, early: int) -> None:
    assert deliveries([Arrival("a", 1, at_ms)], DUE_MS).early == early


def test_leaves_out_arrivals_of_other_tasks() -> None:
    seen = deliveries([Arrival("warm-up", 1, 1), Arrival("a", 1, 1_001)], DUE_MS)
    assert (seen.arrived, seen.duplicates, list(seen.late_ms)) == (1, 0, [1])


def test_nothing_arrived() -> None:
    seen = deliveries([], DUE_MS)
    assert (seen.arrived, seen.lost, seen.early) == (0, 4, 0)
    with pytest.raises(ValueError, match="no values"):
        seen.lateness(50)
