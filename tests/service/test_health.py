"""Health checks beside a client that takes nothing: it has no token, and nobody else is to notice it."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuueri_grpc.service.open_methods import _WAIT_S as _MESSAGE_WAIT_S
from kuueri_grpc.service.reflection import V1 as REFLECTION
from kuueri_grpc.service.server import HEALTH, SERVICES
from tests.fuzz.test_garbage import HEADERS, SETTINGS, START, frame, message, request
from tests.service.edge import Edge

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_S = 30
_INITIAL_WINDOW_SIZE = 4


@asynccontextmanager
async def watching_without_reading(port: int) -> AsyncIterator[None]:
    """Hold while a client watches the health, and has told the server that it has no room for an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(START + frame(SETTINGS, 0, 0, struct.pack("!HI", _INITIAL_WINDOW_SIZE, 0)))
        writer.write(request(1, path=f"/{HEALTH}/Watch".encode()) + message(1, b""))
        kind = None
        while kind != HEADERS:  # they need no room, and come when the server begins to write
            head = await reader.readexactly(9)
            kind = head[3]
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        yield
    finally:
        writer.transport.abort()


async def test_a_client_that_takes_nothing_holds_up_nobody(edge: Edge) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    async with asyncio.timeout(PATIENCE_S), watching_without_reading(edge.server.port):
        watch = aiter(stub.Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(watch)).status == SERVING
        edge.server.set_serving(serving=False)
        assert (await anext(watch)).status == NOT_SERVING
        edge.server.set_serving(serving=True)
        assert (await anext(watch)).status == SERVING
        edge.server.drain()
        assert (await anext(watch)).status == NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING


async def test_all_services_are_listed(edge: Edge) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    pb: Any = health_pb2  # its stubs lack List
    listed = await stub.List(pb.HealthListRequest())
    assert {name: answer.status for name, answer in listed.statuses.items()} == dict.fromkeys(
        ("", *SERVICES), SERVING
    )


async def test_what_is_not_known_is_watched_all_the_same(edge: Edge) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    watch = aiter(stub.Watch(health_pb2.HealthCheckRequest(service="nobodys")))
    async with asyncio.timeout(PATIENCE_S):
        assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_streams_that_say_nothing_hold_up_no_check_from_their_address(edge: Edge) -> None:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    conversing: Any = edge.channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo")
    silent = [conversing() for _ in range(8)]
    for stream in silent:
        await stream.wait_for_connection()
    # They have arrived when one that comes later is answered.
    async with asyncio.timeout(_MESSAGE_WAIT_S / 2):
        for _ in range(3):
            assert (await stub.Check(health_pb2.HealthCheckRequest())).status == SERVING
    for stream in silent:
        stream.cancel()
