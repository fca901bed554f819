"""When a lane is full, and when it has room again."""

from kuueri_grpc.engine.lanes import Lanes


def test_a_lane_fills_up_and_empties() -> None:
    lanes, heard = Lanes(full=4), []
    lanes.on_room(lambda: heard.append(set(lanes.full)))
    for _ in range(4):
        lanes.enter(1)
    lanes.enter(2)
    assert not lanes.full
    lanes.enter(1)
    assert (lanes.full, lanes.waiting) == ({1}, 6)

    lanes.leave(1)
    lanes.leave(1)
    assert (lanes.full, heard, lanes.freed) == ({1}, [], 0)
    lanes.leave(1)
    assert (lanes.full, heard, lanes.freed) == (set(), [set()], 1)
    lanes.leave(1)
    lanes.leave(1)
    lanes.leave(2)
    assert (lanes.waiting, lanes.freed) == (0, 1)


def test_what_is_in_no_lane_fills_none() -> None:
    lanes = Lanes(full=1)
    for _ in range(5):
        lanes.enter(None)
    assert (lanes.full, lanes.waiting) == (set(), 5)
    lanes.leave(None)
    assert lanes.waiting == 4
