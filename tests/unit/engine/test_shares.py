"""How many attempts of one project may start beside what is in flight."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuueri_grpc.engine.lanes import Lanes
from kuueri_grpc.engine.shares import Shares, portion

SIZE = 1_000_000


class Process:
    """The counts of a process whose attempts all hang: they wait for their turn, or have had it."""

    def __init__(self, slots: int) -> None:
        self.lanes = Lanes(slots)
        self.shares = Shares(slots, SIZE, self.lanes)

    def start(self, project_id: str, count: int, *, waits: bool = False, size: int = 0) -> None:
        for _ in range(count):
            self.shares.start(project_id, size)
            if waits:
                self.lanes.enter(project_id, 1)

    def fill(self, projects: int) -> list[int]:
        """Let projects, in turns, take what they may; return what they have then."""
        took = [0] * projects
        while True:
            before = list(took)
            for number in range(projects):
                if self.shares.of(f"p{number}") > 0 and self.shares.free.attempts > 0:
                    self.start(f"p{number}", 1)
                    took[number] += 1
            if took == before:
                return took


def test_one_that_is_alone_has_four_fifths() -> None:
    assert Process(1_000).fill(1) == [800]


def test_a_small_process_has_none_to_keep_free() -> None:
    assert [Process(slots).fill(1)[0] for slots in (1, 2, 3, 4, 5, 10)] == [1, 2, 3, 4, 4, 8]


def test_several_have_as_much_as_each_other_and_leave_some_free() -> None:
    process = Process(1_000)

    assert process.fill(4) == [236, 235, 235, 235]
    assert (process.shares.free.slots, process.shares.of("late")) == (59, 47)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(5, 120))
def test_the_next_one_finds_a_slot(projects: int, slots: int) -> None:
    process = Process(slots)
    process.fill(min(projects, slots // 5))
    assert process.shares.free.slots >= 1
    assert process.shares.of("late") >= 1
    assert portion(process.shares.free.slots) >= 1


def test_those_that_wait_for_their_turn_count_as_well() -> None:
    process = Process(100)
    process.start("a", 200, waits=True)
    assert process.shares.of("a") == 40
    process.start("a", 40, waits=True)
    assert (process.shares.of("a"), process.shares.of("b")) == (0, 48)


def test_so_do_the_bytes_of_requests() -> None:
    process = Process(1_000)
    process.start("a", 8, size=SIZE // 10)
    assert (process.shares.of("a"), process.shares.of("b") > 0) == (0, True)
    process.start("b", 2, size=SIZE // 10)
    assert process.shares.free.attempts == 0
    process.shares.end("b", SIZE // 10)
    assert process.shares.free.attempts > 0


def test_what_ends_gives_its_share_back_and_is_heard_of() -> None:
    process, heard = Process(10), []
    process.shares.on_change(lambda: heard.append(process.shares.of("a")))
    process.start("a", 8)
    assert process.shares.of("a") == 0
    process.shares.end("a", 0)
    assert heard == [1]


@pytest.mark.parametrize("in_flight", [0, 500, 650, 750, 800])
def test_those_with_little_left_are_named(in_flight: int) -> None:
    process = Process(1_000)
    process.start("a", in_flight)
    process.start("b", 5)
    left = {name: process.shares.of(name) for name in ("a", "b") if name == "b" or in_flight}
    assert process.shares.below(100) == {name: count for name, count in left.items() if count < 100}
