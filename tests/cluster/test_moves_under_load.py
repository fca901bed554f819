"""Slots move between primaries that take tasks, and replicas take over afterwards: nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from kuueri_grpc.store import keys
from tests.acceptance.targets import Target, listening
from tests.cluster.load import Fate, Load, fate_of
from tests.cluster.nodes import ELECTED, Cluster, Node, cluster, slot_of
from tests.cluster.projects import PARTITIONS, projects_on_all_nodes
from tests.cluster.replicas import assert_equal
from tests.outages.servers import serving

pytestmark = pytest.mark.timeout(240)

ENVIRONMENT = {"TASKS_WORKERS": "2", "TASKS_DATABASE__PARTITIONS": str(PARTITIONS)}
#: Tasks that each project has accepted between one fault and the next.
BETWEEN = 20

Loads = Mapping[Node, Load]


async def test_slots_move_and_replicas_take_over_under_load(tmp_path: Path) -> None:
    """The slot of one project goes round, to primaries that serve other projects."""
    async with (
        cluster(tmp_path / "nodes") as made,
        serving(tmp_path / "server", made.url, ENVIRONMENT) as (_, channel),
        listening() as target,
    ):
        loads = await loads_on_all_nodes(made, channel, target)
        first, second, third = made.primaries
        slot = slot_of(f"{{{keys.partition_of(loads[first].project.project_id, PARTITIONS)}}}")
        async with under(loads):
            for source, to in ((first, second), (second, third), (third, first), (first, second)):
                await made.move_slot(slot, source, to)
                await more_accepted(loads)
        await assert_nothing_lost(loads)
        counts = [await assert_equal(made, node, made.successor(node)) for node in made.primaries]
        assert sum(counts) > 3 * sum(len(load.accepted) for load in loads.values())

        # In order, while tasks are accepted.
        successor = made.successor(second)
        async with under(loads):
            await made.hand_over(successor)
            await more_accepted(loads)
        await assert_nothing_lost(loads)
        await assert_equal(made, successor, second)

        # By a crash, of the primary that has the slot and of another, when their replicas have everything.
        await made.be_impatient()
        for primary, replica in ((successor, second), (third, made.successor(third))):
            await made.caught_up(primary, replica)
            seen = len(replica.lines)
            await primary.kill()
            await replica.said(ELECTED, after=seen)
        async with under(loads):
            await more_accepted(loads)
        await assert_nothing_lost(loads)


async def test_a_slot_is_moved_key_by_key_under_load(tmp_path: Path) -> None:
    """Its project's calls are refused until all keys have gone; those for others go on."""
    async with (
        cluster(tmp_path / "nodes") as made,
        serving(tmp_path / "server", made.url, ENVIRONMENT) as (_, channel),
        listening() as target,
    ):
        loads = await loads_on_all_nodes(made, channel, target)
        first, second, _ = made.primaries
        slot = slot_of(f"{{{keys.partition_of(loads[first].project.project_id, PARTITIONS)}}}")
        async with under(loads):
            assert await made.move_keys(slot, first, second) > BETWEEN
            await more_accepted(loads)
        await assert_nothing_lost(loads)
        for primary in (first, second):
            await assert_equal(made, primary, made.successor(primary))

        async with under(loads):
            await made.hand_over(made.successor(second))
            await more_accepted(loads)
        await assert_nothing_lost(loads)


async def test_a_new_replica_copies_a_primary_while_a_slot_arrives(tmp_path: Path) -> None:
    async with (
        cluster(tmp_path / "nodes") as made,
        made.another_node(tmp_path / "newcomer") as newcomer,
        serving(tmp_path / "server", made.url, ENVIRONMENT) as (_, channel),
        listening() as target,
    ):
        loads = await loads_on_all_nodes(made, channel, target)
        first, second, _ = made.primaries
        slot = slot_of(f"{{{keys.partition_of(loads[first].project.project_id, PARTITIONS)}}}")
        async with under(loads):
            await more_accepted(loads)
            await asyncio.gather(made.move_slot(slot, first, second), made.follow(newcomer, second))
            await more_accepted(loads)
        await assert_nothing_lost(loads)

        for replica in (made.successor(second), newcomer):
            await assert_equal(made, second, replica)
        async with under(loads):
            await made.hand_over(newcomer)
            await more_accepted(loads)
        await assert_nothing_lost(loads)


async def loads_on_all_nodes(made: Cluster, channel: grpc.aio.Channel, target: Target) -> Loads:
    projects = await projects_on_all_nodes(made, channel)
    return {node: Load(project, node, target) for node, project in projects.items()}


@asynccontextmanager
async def under(loads: Loads) -> AsyncIterator[None]:
    """Have tasks accepted for all projects meanwhile."""
    async with asyncio.TaskGroup() as group:
        for load in loads.values():
            group.create_task(load.run())
        try:
            await more_accepted(loads)
            yield
        finally:
            for load in loads.values():
                load.stop()


async def more_accepted(loads: Loads) -> None:
    await asyncio.gather(*(load.more_accepted(BETWEEN) for load in loads.values()))


async def assert_nothing_lost(loads: Loads) -> None:
    """Every task that was accepted has ended, and can be read; none was delivered twice without a reason."""
    for load in loads.values():
        fate: Fate = await fate_of(load)
        assert fate.lost == set()
        assert fate.forgotten == set()
        assert fate.ended == set(load.accepted)
