"""A server behind a proxy: what goes through it, and what the timeline says where nothing does."""

from collections.abc import Sequence
from pathlib import Path

from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, connected, post, reason_name, register, types
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.targets import listening
from tests.dispatcher.proxies import proxying


async def test_a_server_sends_through_the_proxy_it_was_given(tmp_path: Path) -> None:
    async with proxying() as proxy, listening() as target:
        env = {"TASKS_EGRESS_PROXY": f"http://kuueri:secret@127.0.0.1:{proxy.port}"}
        with Server(tmp_path, *LOOPBACK, env=env) as server:
            async with connected(server.address) as channel:
                events = await _run(await register(channel), target.url("/hook", "localhost"))

        assert types(events)[-1] == "COMPLETED"
        assert proxy.asked[-1] == f"CONNECT 127.0.0.1:{target.port}"
        assert proxy.authorizations[0].startswith("Basic ")
        assert "secret" not in server.log


async def test_without_a_tunnel_the_timeline_says_so(tmp_path: Path) -> None:
    async with proxying(b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy, listening() as target:
        option = ("--egress-proxy", f"http://127.0.0.1:{proxy.port}")
        with Server(tmp_path, *LOOPBACK, *option) as server:
            async with connected(server.address) as channel:
                events = await _run(await register(channel), target.url())

        assert reason_name(events[2]) == "CONNECTION_FAILED"
        assert events[2].description == (
            "Attempt 1 failed: no connection to the target (egress proxy: answered 403)"
        )
        assert target.connection_count == 0


async def _run(project: Project, url: str) -> Sequence[TimelineEvent]:
    task = await project.subscribe(post(url))
    _, events = await project.ended(task.task_id)
    return events
