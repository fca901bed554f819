"""A node goes and comes back: nothing is claimed there until those who hold leases could renew them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.ports import ClaimBatch
from kuueri_grpc.store import keys
from kuueri_grpc.store.settings import StoreSettings
from tests.cluster.nodes import WHOLE, Cluster, Node, cluster
from tests.store.ports import HOUR_MS, Ports, connected, report, spec

SETTINGS = StoreSettings(partitions=64, regain_ms=300)
LEASE_MS = 50


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, replicas=0) as made:
        yield made


@pytest.fixture
async def ports(own: Cluster) -> AsyncIterator[Ports]:
    async with connected(own.url, SETTINGS) as ports:
        yield ports


async def project_on(ports: Ports, own: Cluster, node: Node) -> tuple[str, int]:
    """Make a project on a node; return it and its partition."""
    for number in range(1_000):
        project = f"project{number:09}"
        partition = keys.partition_of(project, SETTINGS.partitions)
        if own.owner(f"{{{partition}}}") is node:
            await ports.create_project(project)
            return project, partition
    raise AssertionError("no project has a partition on the node")


async def claim(
    ports: Ports, *partitions: int, instance: str = "here", lease_ms: int = LEASE_MS
) -> dict[int, ClaimBatch]:
    batches = await ports.execution.claim(dict.fromkeys(partitions, 100), instance, lease_ms)
    return {batch.partition: batch for batch in batches}


async def come_back(node: Node) -> None:
    seen = len(node.lines)
    await node.start()
    await node.said(WHOLE, after=seen)


async def test_what_others_have_is_claimed_renewed_and_reported_meanwhile(ports: Ports, own: Cluster) -> None:
    (gone, lost_p), (here, here_p) = [await project_on(ports, own, node) for node in own.primaries[:2]]
    for project in (gone, here):
        await ports.subscribe(spec("a"), spec("b"), project_id=project)
    taken = await claim(ports, lost_p, here_p, lease_ms=HOUR_MS)
    lost_lease, lease = (taken[p].claims[0].lease for p in (lost_p, here_p))
    await own.primaries[0].kill()

    due = await ports.execution.next_due()
    assert {lost_p, here_p} <= due.keys()
    batches = await claim(ports, lost_p, here_p)
    assert not batches[lost_p].claims
    assert batches[lost_p].next_due_ms is not None
    renewal = await ports.execution.renew([lost_lease, lease], HOUR_MS)
    assert (renewal.held, renewal.lost) == ([lease], [])
    done = [report(held, Trigger.COMPLETE) for held in (lost_lease, lease)]
    assert await ports.execution.report(done) == [None, True]
    with pytest.raises(StoreUnavailable):
        await ports.tasks.get(gone, "a")
    assert (await ports.tasks.get(here, "b")).spec.task_id == "b"


async def test_what_can_be_handed_back_meanwhile_is(ports: Ports, own: Cluster) -> None:
    (gone, lost_p), (here, here_p) = [await project_on(ports, own, node) for node in own.primaries[:2]]
    for project in (gone, here):
        await ports.subscribe(spec("a"), project_id=project)
    taken = await claim(ports, lost_p, here_p, lease_ms=HOUR_MS)
    leases = [taken[p].claims[0].lease for p in (lost_p, here_p)]
    await own.primaries[0].kill()

    assert await ports.execution.release(leases) == [None, True]

    (again,) = (await claim(ports, here_p)).values()
    assert [held.task_id for held in again.claims] == ["a"]


async def test_leases_that_ran_out_meanwhile_can_be_renewed_before_others_take_them(
    ports: Ports, own: Cluster
) -> None:
    project, partition = await project_on(ports, own, own.primaries[0])
    await ports.subscribe(spec("renewed"), spec("abandoned"), project_id=project)
    taken = (await claim(ports, partition))[partition].claims
    leases = {held.task_id: held.lease for held in taken}
    await own.primaries[0].kill()
    (missed,) = (await claim(ports, partition, instance="other")).values()
    assert missed.next_due_ms is not None
    await come_back(own.primaries[0])
    await ports.until(missed.next_due_ms)

    # It serves, and both leases have run out long ago.
    (looked,) = (await claim(ports, partition, instance="other")).values()
    assert not looked.claims
    assert not looked.recovered
    assert looked.next_due_ms is not None
    assert looked.next_due_ms - await ports.now_ms() <= SETTINGS.regain_ms
    renewal = await ports.execution.renew([leases["renewed"]], HOUR_MS)
    while not (
        renewal.held or renewal.lost
    ):  # not asked yet over a new connection: a holder tries again, too
        renewal = await ports.execution.renew([leases["renewed"]], HOUR_MS)
    assert renewal.held == [leases["renewed"]]
    (again,) = (await claim(ports, partition, instance="other")).values()
    assert not again.recovered
    await ports.until(looked.next_due_ms + 1)

    (late,) = (await claim(ports, partition, instance="other")).values()
    assert [lost.task_id for lost in late.recovered] == ["abandoned"]
    assert [held.task_id for held in late.claims] == ["abandoned"]


async def test_a_partition_that_is_still_gone_is_looked_at_again(ports: Ports, own: Cluster) -> None:
    _, partition = await project_on(ports, own, own.primaries[0])
    await own.primaries[0].kill()

    for _ in range(3):
        (batch,) = (await claim(ports, partition)).values()
        assert not batch.claims
        assert batch.next_due_ms is not None
        assert batch.next_due_ms > ports.clock.now_ms()
