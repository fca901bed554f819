"""A hostile name server against a whole `kuueri serve`: the gate at Subscribe, the dial, the timeline.

127.0.0.2 stands for a public address: it is allowed here, and nothing else of this machine is.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from kuueri_grpc.pb.task_pb2 import HttpTarget, Task
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, connected, reason_name, register, types
from tests.acceptance.served import Server
from tests.acceptance.targets import listening, status
from tests.security.name_server import NameServer, name_server
from tests.service.statuses import refusal_of

PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"
RESOLVER = Path(__file__).with_name("resolver")
REFUSED = ["SUBSCRIBED", "DISPATCHED", "ERRORED", "FAILED"]


@asynccontextmanager
async def served(directory: Path, *answers: list[str]) -> AsyncIterator[tuple[Project, NameServer]]:
    """Yield a project of a server whose names have these addresses, one list after the other."""
    async with name_server(*answers) as (address, names):
        env = {"PYTHONPATH": str(RESOLVER), "NAME_SERVER": address}
        with Server(directory, "--allow-target", f"{PUBLIC}/32", "--workers", "1", env=env) as server:
            async with connected(server.address) as channel:
                yield await register(channel), names


async def sent(project: Project, url: str, *, follow: bool = False) -> Sequence[TimelineEvent]:
    """Return the timeline of a task for `url` when it has ended."""
    task = await project.subscribe(Task(http_target=HttpTarget(url=url, follow_redirects=follow)))
    _, events = await project.ended(task.task_id)
    return events


def assert_refused(events: Sequence[TimelineEvent], kind: str) -> None:
    assert types(events) == REFUSED
    assert reason_name(events[2]) == "BLOCKED_ADDRESS"
    assert events[2].description == f"Attempt 1 failed: the target's address is not allowed ({kind})"
    assert not events[2].HasField("status_code")


async def test_public_first_and_private_next_passes_the_gate_and_not_the_dial(tmp_path: Path) -> None:
    async with (
        served(tmp_path, [PUBLIC], [PRIVATE]) as (project, names),
        listening(PUBLIC) as public,
        listening(PRIVATE) as private,
    ):
        assert types(await sent(project, public.url(host="rebind.example")))[-1] == "COMPLETED"
        # Another port, so another lookup: that of the first is kept for some seconds.
        assert_refused(await sent(project, private.url(host="rebind.example")), "loopback")

        assert (public.connection_count, private.connection_count) == (1, 0)
        assert names.asked == 2


@pytest.mark.parametrize(
    ("addresses", "kind"),
    [
        ([PUBLIC, PRIVATE], "loopback"),
        ([PRIVATE, PUBLIC], "loopback"),
        ([PUBLIC, "169.254.169.254"], "cloud metadata"),
        (["10.0.0.1"], "private"),
    ],
)
async def test_one_refused_address_refuses_the_name(tmp_path: Path, addresses: list[str], kind: str) -> None:
    async with (
        served(tmp_path, addresses) as (project, _),
        listening("0.0.0.0") as target,  # noqa: S104  every address of this machine
    ):
        assert_refused(await sent(project, target.url(host="mixed.example")), kind)
        assert target.connection_count == 0


async def test_a_redirect_to_a_name_that_rebinds_is_refused(tmp_path: Path) -> None:
    async with (
        served(tmp_path, [PUBLIC], [PRIVATE]) as (project, _),
        listening(PUBLIC) as public,
        listening(PRIVATE) as private,
    ):
        public.script("/", status(307, location=private.url("/admin", "rebind.example")))
        assert_refused(await sent(project, public.url(host="rebind.example"), follow=True), "loopback")
        assert (public.connection_count, private.connection_count) == (1, 0)


async def test_the_gate_refuses_an_address_and_asks_nobody(tmp_path: Path) -> None:
    async with served(tmp_path, [PUBLIC]) as (project, names), listening(PRIVATE) as private:
        for host in (PRIVATE, "127.1", "[::ffff:127.0.0.1]", "localhost"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await project.subscribe(Task(http_target=HttpTarget(url=private.url(host=host))))
            assert list(refusal_of(refused.value).fields) == ["task.http_target.url"]
        assert (private.connection_count, names.asked) == (0, 0)
        assert (await project.facts()).task_in_queue == 0
