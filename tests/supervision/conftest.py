from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kuueri_grpc.store.embedded import EmbeddedValkey
from tests.acceptance.targets import Target, listening


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with listening() as target:
        yield target


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[str]:
    """Address of a store that several servers share."""
    async with EmbeddedValkey(tmp_path / "store") as store:
        yield store.url
