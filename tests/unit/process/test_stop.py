"""Signals by which a process is told to stop; they are sent to this one."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from kuueri_grpc.process.stop import stop_signals

PATIENCE_S = 10


@pytest.fixture(autouse=True)
def handlers_of_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_requests_the_stop(number: signal.Signals) -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), PATIENCE_S)
        assert not stop.deserted


async def test_a_terminal_that_says_it_twice_ends_nothing_the_hard_way() -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(stop.wait(), PATIENCE_S)
        os.kill(os.getpid(), signal.SIGHUP)


async def test_a_second_sigterm_is_left_to_the_system() -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), PATIENCE_S)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


async def test_sighup_is_ignored_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), PATIENCE_S)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
