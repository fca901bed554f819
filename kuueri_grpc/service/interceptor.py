"""What happens around every call of this API: admission before its method, a status when it raises.

An interceptor, so that a service added later is protected without anyone thinking of it: whatever is not
listed as open needs a token. Health and reflection are not of this API and pass through.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Never, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_status.rpc_status import to_status as to_grpc_status

from kuueri_grpc.domain.errors import WatcherTooSlow
from kuueri_grpc.service.auth import admit, bearer_token
from kuueri_grpc.service.errors import to_status
from kuueri_grpc.service.violations import InvalidFields, Violation

API_PREFIX = "/kuueri.tasks.v1."
#: How long a client of a stream may leave gRPC's buffers full.
SLOW_CLIENT_S = 30.0
#: Methods that need no token.
OPEN_METHODS = frozenset({"/kuueri.tasks.v1.ProjectService/Register"})

#: Tells whose a token is: project id of a token. Raises `Unauthenticated`, `StoreUnavailable`.
Authenticate = Callable[[str], Awaitable[str]]
# An interceptor sees the handlers of all methods: their message types differ. Quoted, because gRPC's classes
# are generic in their stubs alone.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Admits the caller, and ends a call that raised with the status for what it raised."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the guarded handler of the method; None, which means UNIMPLEMENTED, if there is none."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(API_PREFIX):
            return handler
        guarded = self._guarded.get(method)
        if guarded is None:
            guarded = self._guarded[method] = self._guard(handler, is_open=method in OPEN_METHODS)
        return guarded

    def _guard(self, handler: Handler, *, is_open: bool) -> Handler:
        if handler.request_streaming:
            raise NotImplementedError("no method of the API streams requests")
        # Requests are read inside the guard: after the caller was admitted, and with a status if they fail.
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._guard_stream(handler, is_open=is_open),
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._guard_unary(handler, is_open=is_open),
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, handler: Any, *, is_open: bool) -> Any:
        read, method = handler.request_deserializer, handler.unary_unary

        async def call(request: bytes, context: Context) -> Any:
            try:
                if not is_open:
                    await self._admit(context)
                return await method(_parse(read, request), context)
            except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
                await _abort(context, error)

        return call

    def _guard_stream(self, handler: Any, *, is_open: bool) -> Any:
        read, method = handler.request_deserializer, handler.unary_stream

        async def call(request: bytes, context: Context) -> None:
            try:
                if not is_open:
                    await self._admit(context)
                # A client that goes away cancels this call: the method's own clean-up runs then.
                async with aclosing(method(_parse(read, request), context)) as messages:
                    async for message in messages:
                        await _write(context, message)
            except Exception as error:  # noqa: BLE001  as above
                await _abort(context, error)

        return call

    async def _admit(self, context: Context) -> None:
        token = bearer_token(tuple(context.invocation_metadata() or ()))
        admit(await self._authenticate(token))


async def _write(context: Context, message: Any) -> None:
    """Send a message. A client that takes none for long holds memory here, and is let go.

    Raises:
        WatcherTooSlow: gRPC's buffers are full, and stayed so.
    """
    try:
        async with asyncio.timeout(SLOW_CLIENT_S):
            await context.write(message)
    except TimeoutError:
        raise WatcherTooSlow from None


def _parse(read: Callable[[bytes], Any], request: bytes) -> Any:
    try:
        return read(request)
    except DecodeError:
        fault = "is no message of the type that this method takes, or has a string that is not UTF-8"
        raise InvalidFields([Violation("request", fault)]) from None


async def _abort(context: Context, error: Exception) -> Never:
    await context.abort_with_status(to_grpc_status(to_status(error)))
