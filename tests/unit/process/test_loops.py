"""What becomes of a loop that ends."""

import asyncio
import errno
import logging

import pytest

from kuueri_grpc.process import backoff
from kuueri_grpc.process.loops import running
from kuueri_grpc.process.stop import Stop


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.RestartBackoff, "_FIRST_MS", 1)


async def test_a_lack_of_descriptors_is_outlived(caplog: pytest.LogCaptureFixture) -> None:
    runs, third = 0, asyncio.Event()

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        third.set()
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        async with running([loop], Stop()) as failures, asyncio.timeout(30):
            await third.wait()
    assert not failures
    assert [record.event for record in caplog.records] == ["loop_run_again"] * 2  # type: ignore[attr-defined]
    assert all(record.exc_info is None for record in caplog.records)


async def test_any_other_fault_stops_the_process(caplog: pytest.LogCaptureFixture) -> None:
    stop = Stop()

    async def loop() -> None:
        raise KeyError("a fault of this program")

    with caplog.at_level(logging.CRITICAL):
        async with running([loop], stop) as failures, asyncio.timeout(30):
            await stop.wait()
    assert [type(failure) for failure in failures] == [KeyError]
