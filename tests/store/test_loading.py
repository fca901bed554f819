"""A data directory that takes long to load: waited for, told of, and left when the server is to stop."""

import asyncio
import logging
import random
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from kuueri_grpc.config import Settings
from kuueri_grpc.process.stop import Stop, StoppedEarly
from kuueri_grpc.process.store import open_store
from kuueri_grpc.store import loading, valkey_command
from kuueri_grpc.store.embedded import EmbeddedValkey
from tests.store.embedded_tools import PATIENCE_S, assert_gone, log_of, read

KEYS = 60
#: What cannot be packed: while so much is read the server answers at least once.
VALUE = random.Random(1).randbytes(2_048)
_KEY_US = 100_000


@pytest.fixture
async def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a store that takes a tenth of a second for each of its keys."""
    directory = tmp_path / "data"
    async with EmbeddedValkey(directory) as store, Redis.from_url(store.url) as client:
        await client.mset({f"key:{number}": VALUE for number in range(KEYS)})
        await client.bgrewriteaof()
        async with asyncio.timeout(PATIENCE_S):
            # The file with a snapshot at its beginning is loaded key by key.
            while not list(directory.glob("appendonlydir/*.2.base.rdb")):  # noqa: ASYNC110  nobody signals it
                await asyncio.sleep(0.02)
    usual = valkey_command.arguments

    def slow(data_dir: Path, socket: Path, log: Path, fsync: str) -> list[str]:
        delay = ("--key-load-delay", str(_KEY_US), "--loading-process-events-interval-bytes", "1024")
        return [*usual(data_dir, socket, log, fsync), *delay]

    monkeypatch.setattr(valkey_command, "arguments", slow)
    monkeypatch.setattr(loading, "_FIRST_S", 0)
    return directory


async def test_loading_may_take_longer_than_silence(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with EmbeddedValkey(data_dir, silence_timeout_ms=3_000) as store:
        assert await read(store, f"key:{KEYS - 1}") == VALUE
    assert re.search(r"loading its data: \d+ % is there, about \d+ s to go", caplog.text)


async def test_a_server_that_loads_can_be_stopped(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stop, stores = Stop(), []
    told = asyncio.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", "") == "embedded_store_loading":
                told.set()

    handler = Handler()
    loading._log.addHandler(handler)

    async def serve() -> None:
        async with open_store(Settings(data_dir=data_dir), stop) as store:
            stores.append(store)

    try:
        serving = asyncio.create_task(serve())
        await told.wait()
        pid = int((data_dir / "valkey.pid").read_text())
        stop.request()
        with pytest.raises(StoppedEarly):
            await serving
    finally:
        loading._log.removeHandler(handler)
    assert not stores
    assert_gone(pid)
    assert "shutdown signal during loading" in log_of(data_dir)
