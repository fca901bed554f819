"""A worker that is silent is given up; time in which the supervisor stood still counts for nothing."""

import asyncio

import pytest

from kuueri_grpc.process.handover import BEAT_S
from kuueri_grpc.supervisor.pulse import Pulse


class Clock:
    """Moments of the supervisor, one at a time."""

    def __init__(self, pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
        self._moments = asyncio.Semaphore(0)
        self._done = asyncio.Semaphore(0)
        monkeypatch.setattr(pulse, "_moment", self._moment)

    async def _moment(self) -> None:
        self._done.release()
        await self._moments.acquire()

    async def passes(self) -> None:
        """Let a moment pass; return when the next one is waited for."""
        await self._done.acquire()
        self._moments.release()


@pytest.mark.parametrize(("limit_s", "moments"), [(5 * BEAT_S, 5), (5 * BEAT_S + 0.1, 6), (0.1, 4)])
async def test_silence_of_its_length_fails(
    monkeypatch: pytest.MonkeyPatch, limit_s: float, moments: int
) -> None:
    pulse = Pulse(limit_s)
    clock = Clock(pulse, monkeypatch)
    failing = asyncio.create_task(pulse.fails())
    pulse.beat()
    for _ in range(moments - 1):
        await clock.passes()
    await clock._done.acquire()
    assert not failing.done()
    # It was late, and begins anew.
    pulse.beat()
    clock._done.release()
    for _ in range(moments):
        await clock.passes()
    assert await failing == pytest.approx(moments * BEAT_S)


async def test_one_that_may_be_silent_for_ever_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse(0)
    clock = Clock(pulse, monkeypatch)
    failing = asyncio.create_task(pulse.fails())
    pulse.beat()
    for _ in range(1_000):
        await clock.passes()
    assert not failing.done()
    failing.cancel()


async def test_one_that_was_never_heard_is_starting() -> None:
    failing = asyncio.create_task(Pulse(BEAT_S).fails())
    await asyncio.sleep(0)
    assert not failing.done()
    failing.cancel()
