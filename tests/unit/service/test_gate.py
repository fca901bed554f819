"""The way in for calls, while it closes."""

import asyncio
from types import SimpleNamespace

import pytest

from kuueri_grpc.domain.errors import Draining
from kuueri_grpc.service import gate as gate_module
from kuueri_grpc.service.gate import CallGate

PATIENCE_S = 60


async def test_calls_pass_until_it_is_closed() -> None:
    gate = CallGate()
    with gate, gate:
        pass
    await gate.close(PATIENCE_S)
    with pytest.raises(Draining), gate:
        pass


async def test_it_waits_for_calls_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_SENT_S", 0)
    monkeypatch.setattr(gate_module, "_LOOK_AGAIN_S", 0)
    gate = CallGate()
    with gate:
        closing = asyncio.create_task(gate.close(PATIENCE_S))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not closing.done()
    await closing


async def test_patience_runs_out() -> None:
    gate = CallGate()
    with gate:
        await gate.close(0)
        await gate.close(0.05)


async def test_silence_is_when_no_more_calls_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(gate_module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(gate_module, "_LOOK_AGAIN_S", 0)
    gate = CallGate()
    closing = asyncio.create_task(gate.close(PATIENCE_S))
    await asyncio.sleep(0)
    now += 1
    await closing
    with pytest.raises(Draining), gate:
        pass
    silence = asyncio.create_task(gate.silence(PATIENCE_S))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not silence.done()
    now += 1
    await silence
