"""What `kuueri watch` is asked to follow."""

import pytest

from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.watch import watch_request
from kuueri_grpc.pb.task_service_pb2 import WatchRequest


@pytest.mark.parametrize(
    ("task_id", "queue", "follow_all", "expected"),
    [
        ("t1", None, False, WatchRequest(task_id="t1")),
        (None, "mail", False, WatchRequest(queue="mail")),
        (None, None, True, WatchRequest(all=True)),
    ],
)
def test_follows_one_thing(
    task_id: str | None, queue: str | None, follow_all: bool, expected: WatchRequest
) -> None:
    assert watch_request(task_id, queue, follow_all) == expected


@pytest.mark.parametrize(
    ("task_id", "queue", "follow_all"),
    [(None, None, False), ("t1", "mail", False), ("t1", None, True), (None, "mail", True)],
)
def test_refuses_none_and_more_than_one(task_id: str | None, queue: str | None, follow_all: bool) -> None:
    with pytest.raises(CliError, match="one of TASK_ID, --queue NAME and --all"):
        watch_request(task_id, queue, follow_all)
