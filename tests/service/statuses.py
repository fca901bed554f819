"""What a failed call told its caller."""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status


@dataclass
class Refusal:
    """The status of a call that was refused."""

    code: grpc.StatusCode
    text: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        info = self.details["ErrorInfo"]
        assert info.domain == "tasks.kuueri"
        return str(info.reason)

    @property
    def fields(self) -> dict[str, str]:
        violations = self.details["BadRequest"].field_violations
        return {violation.field: violation.description for violation in violations}


async def refusal(call: Awaitable[object] | AsyncIterator[object]) -> Refusal:
    """Run a call to its end, which must be an error, and return that."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (_exhaust(call) if isinstance(call, AsyncIterator) else call)
    return refusal_of(caught.value)


async def _exhaust(messages: AsyncIterator[object]) -> None:
    async for _ in messages:
        pass


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what it reads
    assert status is not None, error
    assert status.message == error.details()
    return Refusal(error.code(), status.message, unpacked(status))


def unpacked(status: Any) -> dict[str, Message]:
    """Return the details of a `google.rpc.Status` by the names of their types."""
    details = {}
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        details[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(details[name])
    return details
