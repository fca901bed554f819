"""Calls as a careful client makes them: again while the server cannot serve."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import grpc.aio

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
