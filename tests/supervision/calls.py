"""Calls as a careful client makes them: again while the server cannot serve."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.acceptance.served import PATIENCE_S

_Answer = TypeVar("_Answer")


async def persistent(call: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Call until it is answered; only UNAVAILABLE is a reason to try again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


async def not_serving(channel: grpc.aio.Channel) -> None:
    """Return when health checks say that the server does not serve, or are not answered any more."""
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        # The stubs of the library leave this method out.
        async for answer in stub.Watch(health_pb2.HealthCheckRequest()):  # type: ignore[attr-defined]
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                return
    except grpc.aio.AioRpcError:
        return
