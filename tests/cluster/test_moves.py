"""Slots whose node is another one by now, and slots without a node."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from tests.cluster.nodes import WHOLE, Cluster, Node, ask, cluster, slot_of

PARTITIONS = 64
#: For calls that are to be answered: however busy the machine is.
PATIENCE_MS = 15_000
PEEKS = [(partition, ()) for partition in range(PARTITIONS)]


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three primaries for one test, which may break them."""
    async with cluster(tmp_path, replicas=0) as made:
        yield made


@pytest.fixture
async def client(own: Cluster) -> AsyncIterator[ClusterClient]:
    async with StoreAddress(own.url, timeout_ms=PATIENCE_MS).connect() as client:
        assert isinstance(client, ClusterClient)
        yield client


@pytest.fixture
def runner(client: ClusterClient) -> ScriptRunner:
    return ScriptRunner(client, StoreSettings(partitions=PARTITIONS))


def partition_of(cluster: Cluster, node: Node) -> int:
    """Return a partition that a node was given."""
    return next(p for p in range(PARTITIONS) if cluster.owner(f"{{{p}}}") is node)


@pytest.mark.parametrize("calls", [1, PARTITIONS])
async def test_a_slot_that_went_to_another_node_is_found_there(
    client: ClusterClient, runner: ScriptRunner, own: Cluster, calls: int
) -> None:
    await runner.run_many("peek", PEEKS)
    source = own.owner("{0}")
    target = next(node for node in own.primaries if node is not source)
    async with source.client() as direct:
        await direct.set("{0}:moves", "along")

    await own.move_slot(slot_of("{0}"), source, target)

    assert len(await runner.run_many("peek", PEEKS[:calls])) == calls
    assert await client.get("{0}:moves") == b"along"
    owner = (await client.nodes.topology()).owner(slot_of("{0}"))
    assert owner is not None
    assert owner.port == target.port


async def test_a_slot_that_is_moved_key_by_key(
    client: ClusterClient, runner: ScriptRunner, own: Cluster
) -> None:
    """A key that went is found; scripts, which need all keys of the slot, wait until all have gone."""
    await client.set("{0}:stays", "here")
    await runner.run("peek", 0, ())
    source = own.owner("{0}")
    target = next(node for node in own.primaries if node is not source)
    async with source.client() as old, target.client() as new:
        await ask(new, "CLUSTER", "SETSLOT", slot_of("{0}"), "IMPORTING", await source.id())
        await ask(old, "CLUSTER", "SETSLOT", slot_of("{0}"), "MIGRATING", await target.id())
        # Asked for there, as the old node has no such key.
        await client.set("{0}:went", "there")

        assert await client.get("{0}:went") == b"there"
        assert await client.get("{0}:stays") == b"here"
        with pytest.raises(StoreUnavailable):
            await runner.run("peek", 0, ())

        await ask(old, "MIGRATE", "127.0.0.1", target.port, "{0}:stays", 0, 1_000)
        for node in (new, old):
            await ask(node, "CLUSTER", "SETSLOT", slot_of("{0}"), "NODE", await target.id())
    assert await client.get("{0}:stays") == b"here"
    await runner.run("peek", 0, ())


async def test_a_node_that_is_gone_takes_its_slots_and_nothing_else(
    runner: ScriptRunner, own: Cluster
) -> None:
    dead, alive = own.primaries[0], own.primaries[1]
    await runner.run_many("peek", PEEKS)

    await dead.kill()

    with pytest.raises(StoreUnavailable):
        await runner.run("peek", partition_of(own, dead), ())
    answers = await runner.run_each("peek", PEEKS)
    failed = {p for p, answer in enumerate(answers) if isinstance(answer, StoreUnavailable)}
    assert failed == {p for p in range(PARTITIONS) if own.owner(f"{{{p}}}") is dead}
    with pytest.raises(StoreUnavailable):
        await runner.run_many("peek", PEEKS)

    seen = len(dead.lines)
    await dead.start()
    await dead.said(WHOLE, after=seen)
    assert len(await runner.run_many("peek", PEEKS)) == PARTITIONS
    assert partition_of(own, alive) not in failed


async def test_a_frozen_node_is_given_up_within_the_time_of_a_command(
    runner: ScriptRunner, own: Cluster
) -> None:
    frozen, alive = own.primaries[0], own.primaries[1]
    await runner.run_many("peek", PEEKS)
    async with StoreAddress(own.url, timeout_ms=1_000).connect() as client:
        assert isinstance(client, ClusterClient)
        await client.nodes.look()
        impatient = ScriptRunner(client, StoreSettings(partitions=PARTITIONS))
        frozen.freeze()

        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            await impatient.run("peek", partition_of(own, frozen), ())
    await runner.run("peek", partition_of(own, alive), ())
    frozen.thaw()
    assert len(await runner.run_many("peek", PEEKS)) == PARTITIONS


async def test_slots_that_nobody_has_fail_and_others_do_not(runner: ScriptRunner, own: Cluster) -> None:
    await runner.run_many("peek", PEEKS)
    for node in own.nodes:
        async with node.client() as direct:
            await direct.config_set("cluster-require-full-coverage", "no")
            await ask(direct, "CLUSTER", "DELSLOTS", slot_of("{0}"))

    with pytest.raises(StoreUnavailable, match="a part of its cluster is down"):
        await runner.run("peek", 0, ())
    other = next(p for p in range(PARTITIONS) if slot_of(f"{{{p}}}") != slot_of("{0}"))
    await runner.run("peek", other, ())


async def test_one_seed_that_answers_is_enough(own: Cluster) -> None:
    dead, alive = own.nodes[0], own.nodes[1]
    await dead.kill()
    url = f"redis+cluster://{dead.address},127.0.0.1:1,{alive.address}"
    async with StoreAddress(url).connect() as client:
        runner = ScriptRunner(client, StoreSettings(partitions=PARTITIONS))
        await runner.run("peek", partition_of(own, alive), ())
        await runner.run("peek", partition_of(own, own.nodes[2]), ())


async def test_without_any_node_there_is_no_store(own: Cluster) -> None:
    for node in own.nodes:
        await node.kill()
    async with StoreAddress(own.url).connect() as client:
        runner = ScriptRunner(client, StoreSettings(partitions=PARTITIONS))
        with pytest.raises(StoreUnavailable):
            await runner.run("peek", 0, ())
        answers = await runner.run_each("peek", PEEKS)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
