"""Many connections: how many are open at a time, and which of them make room."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.service.connections import ClientConnections, _fair_share
from kuueri_grpc.service.wire import WireLimits
from tests.service import watching
from tests.service.edge import Caller, Edge, connect, serving
from tests.service.idle import idling

pytestmark = pytest.mark.timeout(120)

MOST = 40
KEPT = 30
PATIENCE_S = 30.0


@pytest.fixture
async def bounded(store_url: str) -> AsyncIterator[Edge]:
    async with serving(store_url, wire=WireLimits(max_connections=MOST)) as edge:
        yield edge


@pytest.fixture
async def caller(bounded: Edge) -> Caller:
    caller = await bounded.register("owner@example.com")
    await watching.subscribe(bounded, caller, watching.task("a"))
    return caller


async def get(edge: Edge, caller: Caller) -> None:
    await edge.tasks.GetTask(pb.GetTaskRequest(task_id="a"), metadata=caller.metadata)


async def accepted(connections: ClientConnections, count: int) -> None:
    """Return when so many connections are open."""
    async with asyncio.timeout(PATIENCE_S):
        while len(connections._find()) < count:  # noqa: ASYNC110  gRPC signals it to nobody
            await asyncio.sleep(0.01)


async def test_beyond_the_bound_connections_are_closed_as_they_come(bounded: Edge, caller: Caller) -> None:
    async with asyncio.timeout(PATIENCE_S), idling(bounded.server.port, 60, "127.0.0.2") as idlers:
        await accepted(bounded.server.connections, MOST)
        await idlers.until_open(MOST - 1)
        await get(bounded, caller)


async def test_the_network_with_most_connections_makes_room(bounded: Edge, caller: Caller) -> None:
    async with asyncio.timeout(PATIENCE_S), idling(bounded.server.port, 60, "127.0.0.2") as idlers:
        await accepted(bounded.server.connections, MOST)
        watch = bounded.tasks.Watch(pb.WatchRequest(task_id="a"), metadata=caller.metadata)
        await watch.read()
        bounded.server.connections.keep_to_bound()
        await idlers.until_open(KEPT - 1)
        assert idlers.open == KEPT - 1
        async with connect(bounded.server.port) as channel:
            other = Edge(bounded.server, bounded.engine, bounded._execution, channel)
            await get(other, caller)
        assert not watch.done()
        watch.cancel()


async def test_of_one_network_those_that_were_idle_for_longest_make_room(
    bounded: Edge, caller: Caller
) -> None:
    lost = asyncio.create_task(bounded.channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
    async with asyncio.timeout(PATIENCE_S), idling(bounded.server.port, MOST - 4, "127.0.0.1") as idlers:
        await accepted(bounded.server.connections, MOST - 3)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            await get(bounded, caller)
        bounded.server.connections.keep_to_bound()
        await idlers.until_open(KEPT - 1)
        assert idlers.open == KEPT - 1
        await get(bounded, caller)
        assert not lost.done()
    lost.cancel()


async def test_within_the_bound_none_is_closed(bounded: Edge, caller: Caller) -> None:
    async with asyncio.timeout(PATIENCE_S), idling(bounded.server.port, KEPT - 1, "127.0.0.2") as idlers:
        await accepted(bounded.server.connections, KEPT)
        bounded.server.connections.keep_to_bound()
        await get(bounded, caller)
        assert idlers.open == KEPT - 1


@pytest.mark.parametrize(
    ("counts", "room", "share"),
    [([], 10, 0), ([4, 4], 10, 4), ([1, 100], 10, 9), ([50, 50], 10, 5), ([3, 20, 20], 13, 5)],
)
def test_a_fair_share(counts: list[int], room: int, share: int) -> None:
    assert _fair_share(counts, room) == share
    assert sum(min(count, share) for count in counts) <= room
