"""The methods that anybody may call, of services that are not of this API: health and reflection.

Their requests are read here: gRPC's own way with one that is no message is UNKNOWN for the caller and a
traceback in the log, which whoever may connect could fill with them.
"""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

_NO_MESSAGE = (
    "the request is no message of the type that this method takes, or has a string that is not UTF-8"
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def reading(handler: Any) -> Any:
    """Return a handler that ends calls of what is no message with INVALID_ARGUMENT."""
    serializer = handler.response_serializer
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(_conversing(handler), response_serializer=serializer)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(_writing(handler), response_serializer=serializer)
    return grpc.unary_unary_rpc_method_handler(_answering(handler), response_serializer=serializer)


def _answering(handler: Any) -> Any:
    async def call(request: bytes, context: Context) -> Any:
        return await handler.unary_unary(await _read(handler, request, context), context)

    return call


def _writing(handler: Any) -> Any:
    async def call(request: bytes, context: Context) -> None:
        await handler.unary_stream(await _read(handler, request, context), context)

    return call


def _conversing(handler: Any) -> Any:
    async def call(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        async def read_on() -> AsyncIterator[Any]:
            async for request in requests:
                yield await _read(handler, request, context)

        async for response in handler.stream_stream(read_on(), context):
            yield response

    return call


async def _read(handler: Any, request: bytes, context: Context) -> Any:
    try:
        return handler.request_deserializer(request)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _NO_MESSAGE)
