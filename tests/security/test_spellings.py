"""Two gates, each closed by itself to every spelling of an address that must not be reached.

The first is at Subscribe; the second is before and at the dial, and is what counts.
"""

import re
import socket
from collections.abc import Iterator

import grpc
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from google.rpc.error_details_pb2 import BadRequest  # type: ignore[import-untyped]

from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.pb.task_pb2 import HttpTarget, Task
from tests.acceptance.caller import connected, register
from tests.acceptance.served import Server
from tests.dispatcher.sending import delivery, dispatching
from tests.dispatcher.targets import answer, answering, serving
from tests.security.lenient import read_leniently
from tests.security.spellings import HOSTS, urls


class LenientResolver(AbstractResolver):
    """Finds an address in every host in which any library might."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = read_leniently(host)
        return [ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


def test_there_are_enough_of_them() -> None:
    assert len(HOSTS) >= 250


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that opens no range."""
    with Server(tmp_path_factory.mktemp("guarded")) as server:
        yield server


async def test_each_is_refused_at_subscribe_naming_the_field(guarded_server: Server) -> None:
    targets = urls(8080)
    async with connected(guarded_server.address) as channel:
        project = await register(channel)
        results = await project.batch([Task(http_target=HttpTarget(url=url)) for url in targets])
        assert (await project.facts()).task_in_queue == 0

    accepted = [url for url, result in zip(targets, results, strict=True) if result.HasField("task")]
    assert not accepted
    for number, result in enumerate(results):
        bad = BadRequest()
        assert result.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert any(detail.Unpack(bad) for detail in result.error.details)
        assert [fault.field for fault in bad.field_violations] == [f"tasks[{number}].http_target.url"]
        assert re.match(r"(has|is) .*[;:] ", bad.field_violations[0].description)


async def test_each_is_refused_when_it_is_dialled_and_none_is_reached() -> None:
    # On the wildcard address: whatever leads to this machine, by any of its addresses, is counted.
    async with (
        dispatching(resolver=LenientResolver()) as dispatcher,
        serving(answering(answer()), host="::") as target,
    ):
        outcomes = {
            url: await dispatcher.send(delivery(url, follow_redirects=True)) for url in urls(target.port)
        }
        assert target.connections == 0

    # INTERNAL: what is no URL. A task with it cannot be subscribed.
    refused = {Reason.BLOCKED_ADDRESS, Reason.INTERNAL}
    passed = {url: outcome for url, outcome in outcomes.items() if outcome.reason not in refused}
    assert not passed
    assert all(outcome.status_code is None for outcome in outcomes.values())


async def test_the_listener_that_counts_would_be_reached() -> None:
    async with (
        dispatching("127.0.0.0/8", resolver=LenientResolver()) as dispatcher,
        serving(answering(answer()), host="::") as target,
    ):
        for host in ("127.0.0.1", "127.255.255.254", "[::1]", "[::ffff:127.0.0.1]"):
            assert (await dispatcher.send(delivery(target.url(host=host)))).succeeded
        assert target.connections == 4
