"""Where claims begin, and what is looked at again when there is room."""

from collections.abc import Callable

import pytest

from kuueri_grpc.engine.left import LeftTasks
from kuueri_grpc.ports import ClaimBatch

PARTITION = 0
PROJECT = "project1234567890"


def left(passed: int, *, lanes: bool = False, projects: tuple[str, ...] = ()) -> ClaimBatch:
    return ClaimBatch(PARTITION, [], None, left_lanes=lanes, left_projects=projects, passed=passed)


def begins(tasks: LeftTasks) -> int | None:
    return tasks.passed([PARTITION], None).get(PARTITION)


def test_the_next_claim_begins_behind_what_was_left() -> None:
    tasks = LeftTasks()
    tasks.note(left(100, projects=(PROJECT,)), began_at=None, gave_suspects=False)
    assert begins(tasks) == 100
    tasks.note(left(200), began_at=100, gave_suspects=False)
    assert begins(tasks) == 200
    assert tasks.with_a_share(lambda project: project == PROJECT) == [PARTITION]
    assert begins(tasks) is None


@pytest.mark.parametrize(
    "room",
    [
        lambda tasks: tasks.with_a_share(lambda _: True),
        lambda tasks: tasks.in_lanes(),
        lambda tasks: tasks.forget(),
    ],
    ids=["a share", "a lane", "signals may have been missed"],
)
def test_room_while_a_claim_is_under_way_has_the_next_one_begin_at_the_beginning(
    room: Callable[[LeftTasks], object],
) -> None:
    tasks = LeftTasks()
    tasks.note(left(100, lanes=True, projects=(PROJECT,)), began_at=None, gave_suspects=False)
    began_at = begins(tasks)

    room(tasks)
    # It has begun behind what there is room for now, and knows nothing of it.
    tasks.note(left(200), began_at=began_at, gave_suspects=False)

    assert begins(tasks) is None


def test_a_suspect_is_left_where_a_partition_could_not_be_asked() -> None:
    tasks = LeftTasks()
    with_suspects = ClaimBatch(PARTITION, [], None, left_suspects=True, passed=100)
    tasks.note(with_suspects, began_at=None, gave_suspects=False)

    tasks.note(ClaimBatch(PARTITION, [], None), began_at=None, gave_suspects=True)
    assert tasks.first_suspect() == PARTITION

    tasks.note(left(100), began_at=None, gave_suspects=True)
    assert tasks.first_suspect() is None
