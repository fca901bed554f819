"""What is written while a slot moves to another node is there afterwards, and its replica has it too."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.ports import Credential, Rotation
from kuueri_grpc.store import keys
from kuueri_grpc.store.settings import StoreSettings
from tests.cluster.nodes import Cluster, cluster, slot_of
from tests.cluster.replicas import assert_equal
from tests.store import invariants
from tests.store.ports import HOUR_MS, PROJECT, Ports, connected, report, spec

SETTINGS = StoreSettings(partitions=4)
PARTITION = keys.partition_of(PROJECT, SETTINGS.partitions)
#: Projects in the same partition.
NEIGHBOURS = (
    name
    for name in (f"neighbour{number:07}" for number in itertools.count())
    if keys.partition_of(name, SETTINGS.partitions) == PARTITION
)


#: Projects that are there, to be deleted.
DOOMED = list(itertools.islice(NEIGHBOURS, 500))


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two primaries, between which a slot can go to and fro."""
    async with cluster(tmp_path, primaries=2, replicas=2) as made:
        yield made


@pytest.fixture
async def ports(own: Cluster) -> AsyncIterator[Ports]:
    async with connected(own.url, SETTINGS) as ports:
        await ports.create_project()
        await asyncio.gather(*(ports.create_project(name) for name in DOOMED))
        await ports.subscribe(spec("first"))
        yield ports


async def run(ports: Ports, name: str) -> None:
    await ports.subscribe(spec(f"run{name}"))
    (batch,) = await ports.execution.claim({PARTITION: 100}, "here", HOUR_MS)
    await ports.execution.report([report(claim.lease, Trigger.COMPLETE) for claim in batch.claims])


async def cancel(ports: Ports, name: str) -> None:
    await ports.subscribe(spec(f"cancel{name}"))
    await ports.tasks.cancel(PROJECT, f"cancel{name}")


async def create(ports: Ports, name: str) -> None:
    await ports.create_project(next(NEIGHBOURS))


async def close(ports: Ports, name: str) -> None:
    await ports.projects.close(DOOMED.pop() if DOOMED else await ports.create_project(next(NEIGHBOURS)))


async def limit(ports: Ports, name: str) -> None:
    await ports.projects.set_task_limit(PROJECT, int(name) + 1)


async def sign(ports: Ports, name: str) -> None:
    await ports.projects.rotate_signing_secret(PROJECT, f"whsec_{name}", 0)


async def add(ports: Ports, name: str) -> None:
    await ports.projects.add_credential(Credential(PROJECT, f"added{name}", b"digest"), None)
    await ports.projects.remove_credential(PROJECT, f"added{name}")


async def rotate(ports: Ports, name: str) -> None:
    (caller, *_) = await ports.projects.credentials(PROJECT)
    await ports.projects.rotate_token(Rotation(PROJECT, caller.key_id, f"turn{name}", b"digest", 0))


CALLS: tuple[Callable[[Ports, str], Awaitable[None]], ...] = (
    run,
    cancel,
    create,
    close,
    limit,
    sign,
    add,
    rotate,
)


async def test_what_is_written_while_a_slot_moves_is_kept(ports: Ports, own: Cluster) -> None:
    source = own.owner(f"{{{PARTITION}}}")
    (target,) = set(own.primaries) - {source}
    for call in CALLS:
        moving = asyncio.create_task(own.move_slot(slot_of(f"{{{PARTITION}}}"), source, target))
        made = 0
        while not moving.done():
            await call(ports, str(made))
            made += 1
        await moving
        await asyncio.to_thread(invariants.check, own.url, SETTINGS.partitions, SETTINGS.timeline_cap)
        for node in own.primaries:
            await assert_equal(own, node, own.successor(node))
        source, target = target, source
