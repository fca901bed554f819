"""What signals and keys cost at the store is told like every other call to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Lease, Reconnected, Revoked, Telemetry
from kuueri_grpc.store import signals
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.observer import StoreObserver
from kuueri_grpc.store.signals import RedisSignalBus
from tests.acceptance.served import PATIENCE_S
from tests.outages.valkeys import Valkey, running

PROJECT = "project"
REVOKED = Revoked(Lease(PROJECT, "task", "token"))


class Told(Telemetry):
    """What was told, in order."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.failed: list[tuple[str, str]] = []

    def store_called(self, operation: str, seconds: float) -> None:
        assert seconds > 0
        self.called.append(operation)

    def store_failed(self, operation: str, kind: str) -> None:
        self.failed.append((operation, kind))


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with running(tmp_path / "store") as valkey:
        yield valkey


@asynccontextmanager
async def bus(valkey: Valkey, told: Told) -> AsyncIterator[RedisSignalBus]:
    """A bus that listens."""
    async with StoreAddress(valkey.url).connect_for_signals() as client:
        made = RedisSignalBus(client, 1, "here", told, StoreObserver(told))
        async with aclosing(made.listen()) as listening:  # type: ignore[type-var]  # a generator, which closes
            async with asyncio.timeout(PATIENCE_S):
                assert await anext(listening) == Reconnected()

            async def hear() -> None:
                async for _ in listening:
                    pass

            hearing = asyncio.create_task(hear())
            try:
                yield made
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])


async def test_messages_and_subscriptions_are_calls(valkey: Valkey) -> None:
    told = Told()
    async with bus(valkey, told) as signal_bus:
        await signal_bus.send_revoked("there", REVOKED)
        await signal_bus.follow(PROJECT, "task")
        await signal_bus.follow(PROJECT, "task")  # nothing is asked: it is heard already
    assert told.called == ["publish", "follow"]
    assert told.failed == []


async def test_a_store_that_does_not_answer(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    async with bus(valkey, told) as signal_bus:
        monkeypatch.setattr(signals, "_CONFIRMATION_S", 0.1)
        valkey.freeze()
        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            await signal_bus.send_revoked("there", REVOKED)
        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            await signal_bus.follow(PROJECT, "task")
        valkey.thaw()
    assert told.called == []
    assert told.failed == [("publish", "timeout"), ("follow", "timeout")]


async def test_without_a_connection_for_signals_the_store_is_not_to_blame(valkey: Valkey) -> None:
    told = Told()
    async with StoreAddress(valkey.url).connect_for_signals() as client:
        signal_bus = RedisSignalBus(client, 1, "here", told, StoreObserver(told))
        with pytest.raises(StoreUnavailable, match="no connection for signals"):
            await signal_bus.follow(PROJECT, "task")
    assert (told.called, told.failed) == ([], [])


async def test_the_question_for_a_key_is_a_call(valkey: Valkey) -> None:
    told = Told()
    async with StoreAddress(valkey.url).connect() as client:
        assert not await KeyRegistry(client, StoreObserver(told)).is_in_use("key1")
    assert told.called == ["key"]
