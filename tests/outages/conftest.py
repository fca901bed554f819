"""A store and a server of each test's own: these tests break them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from tests.acceptance.caller import Project, register
from tests.acceptance.targets import Target, listening
from tests.outages.servers import Served, serving
from tests.outages.valkeys import Valkey, running


@dataclass
class System:
    """A server on a store, a project on it, and a target that it may send to."""

    valkey: Valkey
    server: Served
    channel: grpc.aio.Channel
    project: Project
    target: Target


@pytest.fixture
async def valkey(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Valkey]:
    """A store; `parametrize("valkey", [{...}], indirect=True)` gives it options."""
    async with running(tmp_path / "store", **getattr(request, "param", {})) as valkey:
        yield valkey


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with listening() as target:
        yield target


@pytest.fixture
async def system(
    tmp_path: Path, valkey: Valkey, target: Target, request: pytest.FixtureRequest
) -> AsyncIterator[System]:
    """A server on the store; `parametrize("system", [{...}], indirect=True)` gives it an environment."""
    env: dict[str, str] = getattr(request, "param", {})
    async with serving(tmp_path / "server", valkey.url, env) as (server, channel):
        yield System(valkey, server, channel, await register(channel), target)
