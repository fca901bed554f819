"""What may be a store of tasks and what may not, as far as clusters go."""

from pathlib import Path

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.connection import CLUSTER_SCHEMA, SCHEMA, StoreAddress, initialise
from tests.cluster.nodes import Cluster, ask, cluster
from tests.keys import KEYRING

PARTITIONS = 256


async def initialised(url: str) -> str:
    async with StoreAddress(url).connect_for_checks() as client:
        return await initialise(client, PARTITIONS, KEYRING)


async def test_a_cluster_is_initialised_once(cluster_url: str) -> None:
    epoch = await initialised(cluster_url)

    assert epoch
    assert await initialised(cluster_url) == epoch


async def test_a_server_is_no_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path, "--cluster-enabled", "no", primaries=1, replicas=0, form=False) as alone:
        with pytest.raises(UnfitStore, match="is a server and no cluster; give its address as redis://"):
            await initialised(alone.url)


async def test_a_node_of_a_cluster_is_no_server(valkey_cluster: Cluster) -> None:
    with pytest.raises(UnfitStore, match=r"is a node of a cluster; .* redis\+cluster://"):
        await initialised(f"redis://{valkey_cluster.nodes[0].address}")


async def test_keys_outside_database_0_are_refused(tmp_path: Path) -> None:
    """Be they the records of a version that kept them there, or another program's."""
    async with cluster(tmp_path, "--cluster-databases", "16", primaries=1, replicas=1) as one:
        epoch = await initialised(one.url)
        async with one.primaries[0].client() as direct:
            await ask(direct, "EVAL", "redis.call('SELECT', 1) redis.call('SET', KEYS[1], '')", 1, "{1}:due")
            await ask(direct, "EVAL", "redis.call('SELECT', 9) redis.call('SET', KEYS[1], '')", 1, "other")
        with pytest.raises(
            UnfitStore,
            match=r"node .* has keys outside database 0 \(1 in database 1, 1 in database 9\).* an earlier "
            r"version kept records in databases 1 to 3 .* an empty cluster.* set cluster-databases to 1",
        ):
            await initialised(one.url)

        async with one.primaries[0].client() as direct:
            await direct.flushall()
        await one.caught_up(one.primaries[0])
        assert await initialised(one.url) != epoch


async def test_a_cluster_of_the_former_layout_is_refused(cluster_url: str, valkey_cluster: Cluster) -> None:
    """Also where the version that filled it has left nothing in databases 1 to 3."""
    async with valkey_cluster.owner(keys.STORE).client() as direct:
        await direct.hset(keys.STORE, mapping={"epoch": "e", "partitions": str(PARTITIONS), "schema": SCHEMA})

    with pytest.raises(
        UnfitStore, match=r"schema is '2'.* kept records in databases 1 to 3 .* empty cluster"
    ):
        await initialised(cluster_url)

    async with valkey_cluster.owner(keys.STORE).client() as direct:
        await direct.delete(keys.STORE)
    await initialised(cluster_url)
    async with valkey_cluster.owner(keys.STORE).client() as direct:
        # What the version before compares with its own: it refuses this one in turn.
        assert await direct.hget(keys.STORE, "schema") == CLUSTER_SCHEMA.encode() != SCHEMA.encode()


async def test_a_replica_that_would_drop_tasks_is_refused(valkey_cluster: Cluster, cluster_url: str) -> None:
    replica = valkey_cluster.replicas[1]
    async with replica.client() as direct:
        await direct.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(UnfitStore, match=rf"node {replica.address} .*'allkeys-lru'"):
                await initialised(cluster_url)
        finally:
            await direct.config_set("maxmemory-policy", "noeviction")


async def test_a_cluster_that_is_not_whole_is_waited_for(tmp_path: Path) -> None:
    async with cluster(tmp_path, primaries=3, replicas=0, form=False) as strangers:
        with pytest.raises(StoreUnavailable, match="a part of its cluster is down"):
            await initialised(strangers.url)

        await strangers.form()

        assert await initialised(strangers.url)


async def test_a_node_that_is_gone_is_left_out_while_the_cluster_serves(tmp_path: Path) -> None:
    async with cluster(tmp_path, primaries=3, replicas=1) as made:
        epoch = await initialised(made.url)
        await made.replicas[0].kill()

        assert await initialised(made.url) == epoch
