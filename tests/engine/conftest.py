from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.projects import Projects, Registered
from tests.engine.credentials import Counting
from tests.engine.parts import Instance, instance
from tests.store.fixtures import ports, store_settings
from tests.store.ports import Ports

__all__ = ["ports", "store_settings"]


@pytest.fixture
async def alone(ports: Ports) -> AsyncIterator[Instance]:
    """An engine of which nothing runs: it hears no signals."""
    async with instance(ports) as alone:
        yield alone


@pytest.fixture
def projects(alone: Instance) -> Projects:
    return alone.projects


@pytest.fixture
def authenticator(alone: Instance) -> Authenticator:
    return alone.authenticator


@pytest.fixture
async def registered(projects: Projects) -> Registered:
    return await projects.register("me@example.com")


@pytest.fixture
def counting(ports: Ports) -> Counting:
    return Counting(*ports.project_parts)
