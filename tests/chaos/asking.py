"""Calls while something is broken: answered, refused, or without an answer."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import grpc
import grpc.aio

CALL_TIMEOUT_S = 6.0
#: What a call may come to while something is broken.
_BROKEN = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)

_Answer = TypeVar("_Answer")


class NoAnswer(Exception):
    """There was no answer, or none that says whether the call was carried out."""


class Refusal(Exception):
    """The answer was no. `code` says why."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code: grpc.StatusCode = error.code()


async def asked(call: Awaitable[_Answer]) -> _Answer:
    """Return the answer of a call. Raises `NoAnswer` or `Refusal`."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in _BROKEN:
            raise NoAnswer(error.code().name) from error
        raise Refusal(error) from error
    except (TimeoutError, grpc.aio.UsageError) as error:
        raise NoAnswer("TIMEOUT" if isinstance(error, TimeoutError) else "CLOSED") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        if task.cancelling():
            raise
        # The call and not its caller was cancelled: its channel was closed.
        raise NoAnswer("CLOSED") from None
