"""A target that was allowed leads elsewhere: nobody is reached there, and the timeline says why."""

from collections.abc import Iterator

import pytest

from kuueri_grpc.pb.task_pb2 import HttpTarget, Task
from tests.acceptance.caller import connected, reason_name, register, types
from tests.acceptance.served import Server
from tests.acceptance.targets import listening, status


@pytest.fixture(scope="module")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may send to one address of this machine, by number or by name, and to no other."""
    options = (
        "--allow-target",
        "127.0.0.1/32",
        "--allow-target",
        "localhost",
        "--deny-target",
        "127.0.0.3/32",
    )
    with Server(tmp_path_factory.mktemp("narrow"), *options) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "description"),
    [
        ("127.0.0.2", "the target's address is not allowed (loopback)"),
        ("127.0.0.3", "the target's address is not allowed (denied by the operator of this server)"),
        ("0x7f000002", "the target's address is not allowed (irregular spelling of an address)"),
        ("[::ffff:127.0.0.2]", "the target's address is not allowed (loopback)"),
        ("metadata.google.internal", "the target's address is not allowed (cloud metadata)"),
    ],
)
async def test_a_redirect_to_what_is_refused_is_on_the_timeline_with_its_reason(
    narrow_server: Server, host: str, description: str
) -> None:
    async with (
        connected(narrow_server.address) as channel,
        listening() as target,
        listening("0.0.0.0") as inside,  # noqa: S104  every address of this machine
    ):
        project = await register(channel)
        url = target.script("/", status(307, location=inside.url("/admin", host)))
        task = await project.subscribe(Task(http_target=HttpTarget(url=url, follow_redirects=True)))
        task, events = await project.ended(task.task_id)

        assert types(events) == ["SUBSCRIBED", "DISPATCHED", "ERRORED", "FAILED"]
        assert reason_name(events[2]) == reason_name(task.last_attempt) == "BLOCKED_ADDRESS"
        assert events[2].description == f"Attempt 1 failed: {description}"
        assert not events[2].HasField("status_code")
        assert inside.connection_count == 0


async def test_a_redirect_to_what_is_allowed_is_followed(narrow_server: Server) -> None:
    async with connected(narrow_server.address) as channel, listening() as target, listening() as other:
        project = await register(channel)
        url = target.script("/", status(307, location=other.url("/next", "localhost")))
        task = await project.subscribe(Task(http_target=HttpTarget(url=url, follow_redirects=True)))
        _, events = await project.ended(task.task_id)

        assert types(events)[-1] == "COMPLETED"
        assert other.connection_count == 1
