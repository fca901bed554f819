"""The fixtures that the store's and the engine's tests share; their `conftest.py` import them."""

from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.store.settings import StoreSettings
from tests.store.invariants import check
from tests.store.ports import Ports, connected


@pytest.fixture
def store_settings() -> StoreSettings:
    """Settings of the store; a test gives others with `parametrize("store_settings", ...)`."""
    return StoreSettings(partitions=4)


@pytest.fixture
async def ports(store_url: str, store_settings: StoreSettings) -> AsyncIterator[Ports]:
    """The ports of a store with nothing but one project in it. What a test leaves must be consistent."""
    async with connected(store_url, store_settings) as ports:
        await ports.create_project()
        yield ports
    check(store_url, store_settings.partitions, store_settings.timeline_cap)
