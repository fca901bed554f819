"""The primary goes, and a replica takes its place behind the same address."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.acceptance.caller import Project, register, types
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import Target
from tests.outages.calls import ONE_ATTEMPT, assert_each_ran_once, subscribe_all, task_to
from tests.outages.proxy import Proxy, between
from tests.outages.servers import NOT_SERVING, SERVING, health, serving
from tests.outages.valkeys import Valkey, running
from tests.service.statuses import refusal

HOUR_MS = 3_600_000
#: When the replica has taken over, also where something stands still for two seconds.
AFTERWARDS_MS = 4_000


@dataclass
class Pair:
    """A primary and its replica, the link between them, and the address that clients use."""

    primary: Valkey
    replica: Valkey
    link: Proxy
    address: Proxy

    async def replicated(self) -> None:
        """Return when the replica has everything."""
        async with self.primary.client() as store:
            assert await store.wait(1, timeout=int(PATIENCE_S * 1_000)) == 1

    async def fail_over(self) -> None:
        """Make the replica the primary, for whoever connects from now on."""
        async with self.replica.client() as store:
            await store.replicaof("NO", "ONE")
        self.address.upstream = self.replica.port


@pytest.fixture
async def pair(tmp_path: Path, valkey: Valkey) -> AsyncIterator[Pair]:
    async with (
        running(tmp_path / "replica") as replica,
        between(valkey.port) as link,
        between(valkey.port) as address,
        replica.client() as store,
    ):
        await store.replicaof("127.0.0.1", link.port)
        async with asyncio.timeout(PATIENCE_S):
            while (await store.info("replication"))["master_link_status"] != "up":
                pass
        yield Pair(valkey, replica, link, address)


@pytest.fixture
async def channel(tmp_path: Path, pair: Pair) -> AsyncIterator[grpc.aio.Channel]:
    async with serving(tmp_path / "server", pair.address.url) as (_, channel):
        yield channel


@pytest.fixture
async def project(channel: grpc.aio.Channel) -> Project:
    return await register(channel)


async def test_store_readonly_after_failover(
    pair: Pair, channel: grpc.aio.Channel, project: Project, target: Target
) -> None:
    """The former primary lives on as a replica, with the server's connections open."""
    waiting = await subscribe_all(project, target, "/later", 20, delay_ms=AFTERWARDS_MS)
    await pair.replicated()
    async with health(channel) as checks:
        await pair.fail_over()
        async with pair.primary.client() as store:
            await store.replicaof("127.0.0.1", pair.replica.port)
        await checks.becomes(NOT_SERVING)
        await checks.becomes(SERVING)
    await assert_each_ran_once(project, target, "/later", waiting)
    # Followed live, so the signals are those of the new primary, too.
    accepted = await project.subscribe(task_to(target, "/accepted"))
    _, events = await project.ended(accepted.task_id)
    assert types(events) == ONE_ATTEMPT
    async with pair.replica.client() as store:
        subscribed = await store.pubsub_numsub("{0}:wake")
    assert subscribed == [(b"{0}:wake", 1)]


async def test_failover_loses_what_was_not_replicated(
    pair: Pair, channel: grpc.aio.Channel, project: Project, target: Target
) -> None:
    """The last fail-over wins: what the new primary does not have is gone, and nothing else is."""
    replicated = await subscribe_all(project, target, "/replicated", 5, delay_ms=AFTERWARDS_MS)
    await pair.replicated()
    pair.link.hold()
    lost = await subscribe_all(project, target, "/lost", 7, delay_ms=HOUR_MS)
    async with health(channel) as checks:
        pair.primary.kill()
        await checks.becomes(NOT_SERVING)
        pair.link.close_connections()
        await pair.fail_over()
        await checks.becomes(SERVING)
    await assert_each_ran_once(project, target, "/replicated", replicated)
    for task_id in lost:
        assert (await refusal(project.get(task_id))).code is grpc.StatusCode.NOT_FOUND
    assert len((await project.list()).tasks) == len(replicated)
