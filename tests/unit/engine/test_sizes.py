"""How many bytes a claim asks each partition for."""

from kuueri_grpc.engine.sizes import MOST_EACH, Sizes

MIB = 1 << 20


def test_partitions_are_asked_for_equal_parts_of_what_one_claim_brings() -> None:
    assert Sizes().parts([3, 1], 100 * MIB) == ({3: MOST_EACH, 1: MOST_EACH}, 3)
    assert Sizes().parts([3, 1], MOST_EACH) == ({3: MOST_EACH // 2, 1: MOST_EACH // 2}, 3)
    assert Sizes().parts([3, 1], -5) == ({3: 0, 1: 0}, 3)


def test_those_that_left_a_large_task_are_asked_for_more_and_few_at_a_time() -> None:
    sizes = Sizes()
    for partition in range(6):
        sizes.ended(partition, left=partition % 2 == 1 or partition == 4)

    asked = sizes.put_off(range(6))
    parts, larger_from = sizes.parts(asked, MIB)

    assert asked == [0, 1, 2, 3, 4]
    assert parts == {0: MIB // 8, 2: MIB // 8, 1: MIB // 4, 3: MIB // 4, 4: MIB // 4}
    assert larger_from == 1
    sizes.ended(1, left=False)
    assert sizes.put_off(range(6)) == list(range(6))
