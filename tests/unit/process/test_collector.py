"""What the garbage collector is told before a process serves."""

import contextlib
import gc
from collections.abc import Iterator

import pytest

from kuueri_grpc.process.collector import importing, settle_collector


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_there_is_not_looked_at_again() -> None:
    before = gc.get_freeze_count()
    settle_collector()
    assert gc.get_freeze_count() > before


def test_what_comes_after_still_is() -> None:
    settle_collector()
    assert gc.isenabled()
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() > 0


def test_it_rests_while_a_block_imports_and_no_longer() -> None:
    with contextlib.suppress(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
