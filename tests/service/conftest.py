from collections.abc import AsyncIterator

import pytest

from tests.service.edge import Caller, Edge, serving


@pytest.fixture
async def edge(store_url: str) -> AsyncIterator[Edge]:
    async with serving(store_url) as edge:
        yield edge


@pytest.fixture
async def owner(edge: Edge) -> Caller:
    return await edge.register("owner@example.com")


@pytest.fixture
async def stranger(edge: Edge) -> Caller:
    return await edge.register("stranger@example.com")
