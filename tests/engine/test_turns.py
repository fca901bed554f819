"""Turns: how many tasks a claim asks each partition for."""

from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.engine.turns import Turns


def with_backlogs(*partitions: int, most: int = 100) -> Turns:
    turns = Turns(most)
    for partition in partitions:
        turns.ended(partition, backlog=True)
    return turns


def test_slots_are_shared_alike() -> None:
    assert with_backlogs(1).limits([1, 2, 3], 90) == {1: 30, 2: 30, 3: 30}


def test_none_is_asked_for_more_than_a_script_may_take() -> None:
    assert with_backlogs(1).limits([1, 2], 1_000) == {1: 100, 2: 100}
    assert with_backlogs(1, most=4).limits([1, 2], 5) == {1: 4, 2: 1}


def test_with_fewer_slots_than_partitions_the_first_have_one_each() -> None:
    assert Turns(100).limits([3, 1, 2], 2) == {3: 1, 1: 1}


def test_backlogs_have_a_turn_of_several_tasks() -> None:
    assert with_backlogs(1, 2, 3).limits([1, 2, 3], 20) == {1: 16, 2: 4}


def test_for_what_is_not_known_no_slots_are_kept_free() -> None:
    assert with_backlogs(2).limits([1, 2, 3, 4], 20) == {1: 5, 2: 15}
    assert with_backlogs(3).limits([1, 2, 3, 4], 40) == {1: 10, 2: 10, 3: 16, 4: 4}


def test_a_backlog_that_is_done_is_one_no_more() -> None:
    turns = with_backlogs(1, 2)
    turns.ended(1, backlog=False)

    assert turns.limits([1, 2], 4) == {1: 2, 2: 2}
    assert turns.limits([1, 2, 3], 18) == {1: 6, 2: 12}


@given(
    partitions=st.lists(st.integers(0, 40), min_size=1, unique=True),
    backlogs=st.sets(st.integers(0, 40)),
    free=st.integers(1, 1_200),
    most=st.integers(1, 120),
)
def test_no_slot_is_given_twice_and_none_is_overtaken(
    partitions: list[int], backlogs: set[int], free: int, most: int
) -> None:
    limits = with_backlogs(*backlogs, most=most).limits(partitions, free)

    assert list(limits) == partitions[: len(limits)]
    assert limits
    assert all(1 <= limit <= most for limit in limits.values())
    assert sum(limits.values()) <= free
    if len(limits) < len(partitions):
        assert sum(limits.values()) == free
