"""The agenda: when to look at which partition."""

from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.engine.agenda import Agenda

partitions = st.integers(0, 5)
instants_ms = st.integers(0, 50)


def test_an_empty_agenda() -> None:
    agenda = Agenda()

    assert (agenda.next_ms(), agenda.due(10**15)) == (None, [])


def test_the_earliest_comes_first() -> None:
    agenda = Agenda()
    for partition, at_ms in ((1, 30), (2, 10), (3, 20)):
        assert agenda.advance(partition, at_ms)

    assert agenda.next_ms() == 10
    assert agenda.due(9) == []
    assert agenda.due(20) == [2, 3]
    assert agenda.due(100) == [2, 3, 1]


def test_an_instant_only_moves_forward() -> None:
    agenda = Agenda()
    agenda.advance(1, 20)

    assert not agenda.advance(1, 20)
    assert not agenda.advance(1, 30)
    assert agenda.next_ms() == 20
    assert agenda.advance(1, 10)
    assert (agenda.next_ms(), agenda.due(10)) == (10, [1])


def test_what_is_taken_is_struck_out_with_its_instant() -> None:
    agenda = Agenda()
    agenda.advance(1, 10)
    agenda.advance(2, 20)

    assert agenda.take([1]) == {1: 10}

    assert (agenda.next_ms(), agenda.due(100)) == (20, [2])
    assert agenda.advance(1, 90)
    assert agenda.due(100) == [2, 1]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("advance"), partitions, instants_ms),
            st.tuples(st.just("take due"), instants_ms, st.none()),
            st.tuples(st.just("next"), st.none(), st.none()),
        )
    )
)
def test_it_is_a_map_with_a_least_value(steps: list[tuple[str, int | None, int | None]]) -> None:
    """Against the plainest model; what is stale in the heap never shows."""
    agenda, model = Agenda(), dict[int, int]()
    for step in steps:
        match step:
            case ("advance", int(partition), int(at_ms)):
                sooner = at_ms < model.get(partition, at_ms + 1)
                assert agenda.advance(partition, at_ms) == sooner
                model[partition] = min(at_ms, model.get(partition, at_ms))
            case ("take due", int(now_ms), None):
                due = sorted((at_ms, partition) for partition, at_ms in model.items() if at_ms <= now_ms)
                assert agenda.due(now_ms) == [partition for _, partition in due]
                taken = agenda.take(agenda.due(now_ms))
                assert taken == {partition: model.pop(partition) for _, partition in due}
            case _:
                assert agenda.next_ms() == min(model.values(), default=None)
    assert agenda.next_ms() == min(model.values(), default=None)
