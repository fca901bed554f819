"""Followers who come and go while the store stands still: nobody hears less for it, and nothing is left."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis

from kuueri_grpc.engine.topics import Topics
from kuueri_grpc.ports import Changed, Disconnected, Lease, Reconnected, Revoked, Signal
from kuueri_grpc.store import keys, signals
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.signals import RedisSignalBus
from tests.acceptance.served import PATIENCE_S
from tests.outages.valkeys import Valkey, running

PROJECT, HERE = "project", "here"
FENCE = Revoked(Lease(PROJECT, "fence", "token"))
#: More than enough turns of the event loop for whatever has been made ready.
TURNS = 20

Listening = AsyncGenerator[Signal, None]


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with running(tmp_path / "store") as valkey:
        yield valkey


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[Redis]:
    async with valkey.client() as client:
        yield client


@asynccontextmanager
async def bus(valkey: Valkey) -> AsyncIterator[tuple[RedisSignalBus, Listening]]:
    """A bus that is connected, and hears when a test asks it to."""
    async with StoreAddress(valkey.url).connect_for_signals() as connection:
        made = RedisSignalBus(connection, 1, HERE)
        async with aclosing(cast("Listening", made.listen())) as listening:
            assert await heard(listening) == Reconnected()
            yield made, listening


async def heard(listening: Listening) -> Signal:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(listening)


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def listeners(client: Redis, *task_ids: str) -> list[int]:
    """Return how many connections are subscribed to each task."""
    channels = [keys.watch_channel(0, PROJECT, task_id) for task_id in task_ids]
    return [count for _, count in await client.pubsub_numsub(*channels)]


async def subscribed(client: Redis, *task_ids: str) -> None:
    """Return when the store has subscribed somebody to each."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(await listeners(client, *task_ids)):
            pass


async def fence(client: Redis, listening: Listening) -> None:
    """Return when the bus has heard all that it was told, and the store done all that the bus asked for."""
    await publish_fence(client)
    assert await heard(listening) == FENCE


async def publish_fence(client: Redis) -> None:
    await client.publish(keys.instance_channel(HERE), json.dumps({"revoked": [PROJECT, "fence", "token"]}))


async def test_all_who_come_at_a_time_are_asked_for_at_once(valkey: Valkey, client: Redis) -> None:
    """Nobody waits until another one's subscription is in force, which takes the store a moment each."""
    task_ids = [f"t{n}" for n in range(20)]
    async with bus(valkey) as (signal_bus, listening):
        following = [asyncio.create_task(signal_bus.follow(PROJECT, task_id)) for task_id in task_ids]

        await subscribed(client, *task_ids)

        assert not any(one.done() for one in following)
        await fence(client, listening)
        await asyncio.gather(*following)


async def test_one_who_is_cancelled_twice_as_he_leaves_leaves_nothing_behind(
    valkey: Valkey, client: Redis
) -> None:
    """A stream that is ended, and whose client goes at the same time."""
    async with bus(valkey) as (signal_bus, listening):
        topics = Topics(signal_bus)

        async def stay() -> None:
            async with topics.following(Changed(PROJECT, "a")):
                await asyncio.Event().wait()

        staying = asyncio.create_task(stay())
        await subscribed(client, "a")
        await fence(client, listening)
        valkey.freeze()
        coming = asyncio.create_task(signal_bus.follow(PROJECT, "b"))
        await turns()

        staying.cancel()
        await turns()
        staying.cancel()
        await asyncio.wait([staying])

        valkey.thaw()
        await subscribed(client, "b")
        await fence(client, listening)
        await coming
        assert await listeners(client, "a", "b") == [0, 1]
        assert not topics.followers


async def test_the_confirmation_of_one_who_has_gone_is_not_taken_for_that_of_the_next(
    valkey: Valkey, client: Redis
) -> None:
    """Between the two the task is followed by nobody: what is read meanwhile may miss something."""
    async with bus(valkey) as (signal_bus, listening):
        first = asyncio.create_task(signal_bus.follow(PROJECT, "a"))
        await subscribed(client, "a")
        await publish_fence(client)
        valkey.freeze()
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(signal_bus.follow(PROJECT, "a"))
        await turns()

        assert await heard(listening) == FENCE
        await turns()
        assert not second.done()

        valkey.thaw()
        await fence(client, listening)
        await second


async def test_one_who_leaves_while_it_is_connected_anew_leaves_nothing_behind(
    valkey: Valkey, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_BACKOFF_S", (0.0,))
    async with bus(valkey) as (signal_bus, listening):
        following = [asyncio.create_task(signal_bus.follow(PROJECT, task_id)) for task_id in "ab"]
        await subscribed(client, *"ab")
        await fence(client, listening)
        await asyncio.gather(*following)
        await client.client_kill_filter(_type="pubsub")
        assert isinstance(await heard(listening), Disconnected)
        valkey.freeze()
        connecting = asyncio.create_task(heard(listening))
        await turns()

        signal_bus.unfollow(PROJECT, "a")

        valkey.thaw()
        assert await connecting == Reconnected()
        await fence(client, listening)
        assert await listeners(client, *"ab") == [0, 1]
