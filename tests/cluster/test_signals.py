"""Signals on a cluster: heard through one node wherever they come from, and through another when it dies."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar, cast

from kuueri_grpc.ports import Changed, Disconnected, Due, Lease, Reconnected, Revoke, Signal
from kuueri_grpc.store import keys
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from tests.cluster.nodes import PATIENCE_S, Cluster, Node, cluster
from tests.store.ports import Ports, connected, signal_bus, spec

HERE = "here"
SETTINGS = StoreSettings()

Kind = TypeVar("Kind", bound=Signal)


def listening(bus: RedisSignalBus) -> AsyncGenerator[Signal, None]:
    return cast("AsyncGenerator[Signal, None]", bus.listen())


async def heard(signals: AsyncGenerator[Signal, None], kind: type[Kind]) -> Kind:
    """Return the next signal of a kind."""
    async with asyncio.timeout(PATIENCE_S):
        async for signal in signals:
            if isinstance(signal, kind):
                return signal
    raise AssertionError("the bus has stopped listening")


async def listened_to(made: Cluster) -> Node:
    """Return the node that the bus listens through."""
    channel = keys.instance_channel(HERE)
    found = []
    for node in made.nodes:
        if node.running:
            async with node.client() as direct:
                found += [node for _, count in await direct.pubsub_numsub(channel) if count]
    (node,) = found
    return node


def projects_by_node(made: Cluster) -> dict[Node, str]:
    """Return a project on each primary."""
    projects: dict[Node, str] = {}
    for number in range(100):
        project = f"project{number:09}"
        partition = keys.partition_of(project, SETTINGS.partitions)
        projects.setdefault(made.owner(f"{{{partition}}}"), project)
    assert len(projects) == len(made.primaries)
    return projects


async def test_signals_come_from_every_node(ports: Ports, valkey_cluster: Cluster) -> None:
    async with signal_bus(ports.url, SETTINGS, HERE) as bus, aclosing(listening(bus)) as signals:
        await heard(signals, Reconnected)
        for project in projects_by_node(valkey_cluster).values():
            await ports.create_project(project)
            await ports.subscribe(spec("waits"), project_id=project)

            assert (await heard(signals, Due)).partition == keys.partition_of(project, SETTINGS.partitions)


async def test_what_is_followed_is_heard_until_it_is_not_followed(
    ports: Ports, valkey_cluster: Cluster
) -> None:
    async with signal_bus(ports.url, SETTINGS, HERE) as bus, aclosing(listening(bus)) as signals:
        await heard(signals, Reconnected)
        for project in projects_by_node(valkey_cluster).values():
            await ports.create_project(project)
            await ports.subscribe(spec("watched"), project_id=project)
            # The bus hears its confirmation only while somebody listens.
            following = asyncio.create_task(bus.follow(project, "watched"))
            change = asyncio.create_task(heard(signals, Changed))
            await following

            await ports.tasks.pause(project, "watched")

            assert await change == Changed(project, "watched")
            bus.unfollow(project, "watched")


async def test_instances_speak_to_each_other(ports: Ports) -> None:
    revoke = Revoke(Lease("project", "task", "token"), "elsewhere")
    async with (
        signal_bus(ports.url, SETTINGS, HERE) as bus,
        signal_bus(ports.url, SETTINGS, "elsewhere") as other,
        aclosing(listening(bus)) as signals,
    ):
        await heard(signals, Reconnected)

        await other.send_revoke(HERE, revoke)

        assert await heard(signals, Revoke) == revoke


async def test_another_node_is_listened_to_when_one_is_gone(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, connected(made.url, SETTINGS) as ports:
        await made.be_impatient()
        async with signal_bus(made.url, SETTINGS, HERE) as bus, aclosing(listening(bus)) as signals:
            await heard(signals, Reconnected)
            gone = await listened_to(made)
            failing_over = asyncio.create_task(made.fail_over(gone))

            await heard(signals, Disconnected)
            await heard(signals, Reconnected)
            assert await listened_to(made) is not gone
            await failing_over
            for project in projects_by_node(made).values():
                await ports.create_project(project)
                await ports.subscribe(spec("waits"), project_id=project)
                await heard(signals, Due)
