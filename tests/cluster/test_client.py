"""Commands to a cluster that serves: each goes to the node that has its key."""

from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ResponseError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from tests.cluster.nodes import Cluster

PARTITIONS = 64
PEEKS = [(partition, ()) for partition in range(PARTITIONS)]
KEYS = [f"key:{number}" for number in range(30)]


@pytest.fixture
async def client(cluster_url: str) -> AsyncIterator[ClusterClient]:
    async with StoreAddress(cluster_url).connect() as client:
        assert isinstance(client, ClusterClient)
        yield client


async def test_every_key_is_where_the_cluster_looks_for_it(
    client: ClusterClient, valkey_cluster: Cluster
) -> None:
    for key in KEYS:
        await client.set(key, key.upper())

    assert [await client.get(key) for key in KEYS] == [key.upper().encode() for key in KEYS]
    found = set()
    for node in valkey_cluster.primaries:
        async with node.client() as direct:
            here = [text(key) for key in await direct.keys("*")]
        assert here
        assert {valkey_cluster.owner(key) for key in here} == {node}
        found.update(here)
    assert found == set(KEYS)


async def test_a_batch_is_answered_in_order_and_one_fault_is_one_answer(client: ClusterClient) -> None:
    sha = await client.script_load("return {KEYS[1], ARGV[1] + 0}")
    batch = client.pipeline(transaction=False)
    for number, key in enumerate(KEYS):
        batch.evalsha(sha, 1, key, "no number" if number == 7 else number)

    answers = await batch.execute(raise_on_error=False)

    assert isinstance(answers.pop(7), ResponseError)
    assert answers == [[key.encode(), number] for number, key in enumerate(KEYS) if number != 7]


async def test_a_batch_can_raise_its_first_fault(client: ClusterClient) -> None:
    sha = await client.script_load("return KEYS[1] + 0")

    with pytest.raises(ResponseError, match="attempt to perform arithmetic"):
        await client.pipeline(transaction=False).evalsha(sha, 1, KEYS[0]).execute(raise_on_error=True)


async def test_there_are_no_transactions(client: ClusterClient) -> None:
    with pytest.raises(ValueError, match="several nodes"):
        client.pipeline(transaction=True)


async def test_a_refused_client_asks_nobody(client: ClusterClient) -> None:
    client.refuse("not fit")
    with pytest.raises(StoreUnavailable, match="not fit"):
        await client.get("key")

    client.refuse(None)
    assert await client.get("key") is None


@pytest.mark.parametrize("calls", [1, PARTITIONS])
async def test_a_script_is_loaded_where_it_is_missing(
    client: ClusterClient, valkey_cluster: Cluster, calls: int
) -> None:
    runner = ScriptRunner(client, StoreSettings(partitions=PARTITIONS))
    await runner.run_many("peek", PEEKS)
    forgetful = valkey_cluster.owner("{0}")
    async with forgetful.client() as direct:
        await direct.script_flush()

    assert len(await runner.run_many("peek", PEEKS[:calls])) == calls
