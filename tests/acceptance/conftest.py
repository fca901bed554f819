"""One server per test process, shared by the tests that do not stop it; a project and a target per test."""

from collections.abc import AsyncIterator, Iterator

import grpc.aio
import pytest

from tests.acceptance.caller import Project, connected, register
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.targets import Target, listening


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may send to loopback addresses. No test stops it."""
    with Server(tmp_path_factory.mktemp("served"), *LOOPBACK) as server:
        yield server


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with connected(server.address) as channel:
        yield channel


@pytest.fixture
async def project(channel: grpc.aio.Channel) -> Project:
    return await register(channel)


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with listening() as target:
        yield target
