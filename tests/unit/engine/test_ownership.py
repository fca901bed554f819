"""Who looks at which partition first."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.engine.ownership import alone, ranked

PARTITIONS = 64

instances = st.sets(st.text("abcdef", min_size=1, max_size=8), min_size=1, max_size=6)


def delays(live: set[str], partition: int) -> dict[str, int]:
    return {one: ranked(PARTITIONS, one, live).delay_ms(partition) for one in live}


@given(instances, st.integers(0, PARTITIONS - 1))
def test_each_instance_looks_in_its_own_turn_and_one_at_once(live: set[str], partition: int) -> None:
    assert sorted(delays(live, partition).values()) == [20 * rank for rank in range(len(live))]


@given(instances)
def test_every_partition_is_owned_by_one(live: set[str]) -> None:
    assert sum(ranked(PARTITIONS, one, live).owned for one in live) == PARTITIONS


@given(instances, st.integers(0, PARTITIONS - 1))
def test_when_one_leaves_the_others_keep_their_order(live: set[str], partition: int) -> None:
    before = delays(live, partition)
    gone = min(live)
    after = delays(live - {gone}, partition)
    assert sorted(after, key=after.__getitem__) == sorted(after, key=before.__getitem__)


def test_a_lone_instance_never_waits() -> None:
    for ownership in (alone(PARTITIONS), ranked(PARTITIONS, "me", []), ranked(PARTITIONS, "me", ["me"])):
        assert {ownership.delay_ms(partition) for partition in range(PARTITIONS)} == {0}
        assert ownership.owned == PARTITIONS


def test_nobody_waits_longer_than_200_ms() -> None:
    many = {f"instance-{number}" for number in range(30)}
    waits = Counter(delays(many, 0).values())
    assert max(waits) == 200
    assert waits[200] == 20


def test_partitions_are_spread_evenly() -> None:
    live = {f"instance-{number}" for number in range(4)}
    owned = [ranked(1_000, one, live).owned for one in live]
    assert max(owned) < 1.3 * 250
    assert min(owned) > 0.7 * 250
