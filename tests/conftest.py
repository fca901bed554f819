"""Fixtures for every folder of tests: one real Valkey per test process, run as the application runs it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis import Redis

from kuueri_grpc.store.embedded import EmbeddedValkey


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    """The store of this test process (each xdist worker has its own), started when first asked for.

    Tests that stop, freeze or fill a store start one of their own instead.
    """
    async with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as store:
        yield store


@pytest.fixture
def store_url(embedded_valkey: EmbeddedValkey) -> str:
    """Address of an empty store, for sync and async tests alike.

    It is emptied before a test, not after, so that what a failed test left can be looked at.
    """
    with Redis.from_url(embedded_valkey.url) as client:
        client.flushall()
    return embedded_valkey.url
