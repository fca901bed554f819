"""Opening a store: what it was initialised with, and what makes it unfit."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import TaskFilter
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.connection import StoreAddress, UnfitStore, initialise
from tests.keys import KEYRING
from tests.store.ports import PROJECT, Ports, everywhere, spec


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[Commands]:
    async with StoreAddress(store_url).connect() as client:
        yield client


async def test_the_epoch_is_the_store_s_for_as_long_as_its_data(client: Commands) -> None:
    first = await initialise(client, 4, KEYRING)
    assert await initialise(client, 4, KEYRING) == first

    await everywhere(client, "FLUSHALL")

    assert await initialise(client, 4, KEYRING) not in ("", first)


async def test_many_processes_agree_on_one_epoch(client: Commands) -> None:
    epochs = await asyncio.gather(*(initialise(client, 4, KEYRING) for _ in range(20)))

    assert len(set(epochs)) == 1


async def test_the_number_of_partitions_is_the_store_s(client: Commands) -> None:
    await initialise(client, 4, KEYRING)

    with pytest.raises(UnfitStore, match=r"initialised with 4 partitions.*set to 8.*PARTITIONS to 4"):
        await initialise(client, 8, KEYRING)


async def test_another_schema_is_not_read(client: Commands) -> None:
    await initialise(client, 4, KEYRING)
    await client.hset(keys.STORE, "schema", "99")

    with pytest.raises(UnfitStore, match="schema is '99'"):
        await initialise(client, 4, KEYRING)


async def test_a_store_that_evicts_is_refused(client: Commands) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(UnfitStore, match=r"allkeys-lru.*noeviction"):
            await initialise(client, 4, KEYRING)
    finally:
        await client.config_set("maxmemory-policy", "noeviction")


async def test_a_store_that_is_not_there_is_an_outage() -> None:
    async with StoreAddress("unix:///nowhere/valkey.sock").connect() as client:
        with pytest.raises(StoreUnavailable):
            await initialise(client, 4, KEYRING)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(StoreAddress("redis://host", "user", "secret"))


async def test_scripts_are_loaded_again_when_the_store_has_forgotten_them(ports: Ports) -> None:
    """As after a restart, for one call and for several in one round trip."""
    await ports.everywhere("SCRIPT FLUSH")
    await ports.subscribe(*(spec(f"t{n}") for n in range(250)))
    await ports.everywhere("SCRIPT FLUSH")

    page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, None)

    assert len(page.tasks) == 10
    await ports.everywhere("SCRIPT FLUSH")
    assert len(await ports.execution.next_due()) == 1


@pytest.mark.parametrize("steps", range(12))
async def test_a_call_that_is_cancelled_ends(ports: Ports, steps: int) -> None:
    """At whatever point: a loop that is told to end must not go on."""
    await ports.subscribe(spec("a"))
    call = asyncio.create_task(ports.tasks.get(PROJECT, "a"))
    for _ in range(steps):
        await asyncio.sleep(0)
    answered = call.done()
    call.cancel()
    await asyncio.wait([call])

    assert call.cancelled() or answered
    assert (await ports.tasks.get(PROJECT, "a")).spec.task_id == "a"
