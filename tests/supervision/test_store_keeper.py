"""The embedded store is kept running; whatever breaks that down ends the server with the reason."""

from pathlib import Path

import pytest

from kuueri_grpc.config import Settings
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.stop import Stop
from kuueri_grpc.process.store import open_store
from kuueri_grpc.store.embedded import EmbeddedValkey


async def test_a_keeper_that_breaks_down_stops_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(_: EmbeddedValkey) -> str:
        raise RuntimeError("out of file descriptors")

    monkeypatch.setattr(EmbeddedValkey, "wait", break_down)
    stop = Stop()
    with pytest.raises(StartError, match="cannot be kept running: out of file descriptors"):
        async with open_store(Settings(data_dir=tmp_path / "data"), stop):
            await stop.wait()
    assert "a loop of the server broke down" in caplog.text
