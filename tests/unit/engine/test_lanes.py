"""When a lane is full, and when it has room again."""

from kuueri_grpc.engine.lanes import Lanes


def test_a_lane_fills_up_and_empties() -> None:
    lanes, heard = Lanes(full=4), []
    lanes.on_room(lambda: heard.append(set(lanes.full)))
    for _ in range(4):
        lanes.enter("a", 1)
    lanes.enter("a", 2)
    assert not lanes.full
    lanes.enter("a", 1)
    assert (lanes.full, lanes.waiting) == ([("a", 1)], 6)

    lanes.leave("a", 1)
    lanes.leave("a", 1)
    assert (lanes.full, heard, lanes.freed) == ([("a", 1)], [], 0)
    lanes.leave("a", 1)
    assert (lanes.full, heard, lanes.freed) == ([], [set()], 1)
    lanes.leave("a", 1)
    lanes.leave("a", 1)
    lanes.leave("a", 2)
    assert (lanes.waiting, lanes.freed) == (0, 1)


def test_what_is_in_no_lane_fills_none() -> None:
    lanes = Lanes(full=1)
    for _ in range(5):
        lanes.enter("a", None)
    assert (lanes.full, lanes.waiting) == ([], 5)
    lanes.leave("a", None)
    assert lanes.waiting == 4


def test_a_lane_is_full_for_the_projects_that_wait_in_it() -> None:
    """Whoever fills a lane takes nothing from a project that has no attempt there."""
    lanes = Lanes(full=4)
    for _ in range(5):
        lanes.enter("a", 1)
    assert lanes.full == [("a", 1)]
    lanes.enter("b", 1)
    assert lanes.full == [("a", 1), ("b", 1)]
    assert (lanes.waiting_of("a"), lanes.waiting_of("b")) == (5, 1)

    lanes.leave("b", 1)
    assert (lanes.full, lanes.freed) == ([("a", 1)], 1)
    for _ in range(3):
        lanes.leave("a", 1)
    assert (lanes.full, lanes.freed) == ([], 2)
