"""A store of each test's own, a target, and a way to tell what a fault did."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.targets import Target, listening
from tests.outages.valkeys import Valkey, running


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with listening() as target:
        yield target


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with running(tmp_path / "store") as valkey:
        yield valkey


@dataclass
class Measure:
    """Seconds since a fault; `tell` prints what it did, for docs/faults.md."""

    name: str
    began: float = field(default_factory=time.monotonic)

    def tell(self, *, lost: int, duplicated: int, note: str = "") -> None:
        seconds = time.monotonic() - self.began
        print(f"fault: {self.name}: lost {lost}, duplicated {duplicated}, whole after {seconds:.1f} s {note}")  # noqa: T201


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[[], Measure]:
    """Begin to measure, at the moment of the fault."""
    return lambda: Measure(request.node.name)
