import pytest

from kuueri_grpc.store.settings import StoreSettings
from tests.store.fixtures import ports

__all__ = ["ports"]


@pytest.fixture
def store_url(cluster_url: str) -> str:
    """Whatever the other folders run on, here it is a cluster."""
    return cluster_url


@pytest.fixture
def store_settings() -> StoreSettings:
    """As many partitions as the default: some on each node."""
    return StoreSettings()
