"""What happens around every call of this API: admission before its method, a status when it raises.

The server has every method that is added to it guarded, so that a service added later is protected without
anyone thinking of it: see `Admission`. Health and reflection are not of this API: see `open_methods`. This is
no interceptor of grpc.aio's, which would look for the method's handler anew at each call.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Never, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import code_pb2  # type: ignore[import-untyped]
from grpc_status.rpc_status import to_status as to_grpc_status

from kuueri_grpc.domain.errors import WatcherTooSlow
from kuueri_grpc.engine.patience import Patience
from kuueri_grpc.engine.streams import Stream
from kuueri_grpc.pb.task_service_pb2 import WatchRequest
from kuueri_grpc.ports import NO_TELEMETRY, Telemetry
from kuueri_grpc.service.admission import Admission
from kuueri_grpc.service.auth import access, caller
from kuueri_grpc.service.errors import to_status
from kuueri_grpc.service.gate import CallGate
from kuueri_grpc.service.open_methods import reading
from kuueri_grpc.service.outlet import Outlet
from kuueri_grpc.service.streams import StreamLimits
from kuueri_grpc.service.violations import InvalidFields, Violation

_log = logging.getLogger(__name__)

API_PREFIX = "/kuueri.tasks.v1."
#: How long a client of a stream may leave gRPC's buffers full.
SLOW_CLIENT_S = 30.0
#: How long after a message that could not be sent gRPC may take to say that the client has gone.
GONE_S = 1.0
# The guard sees the handlers of all methods: their message types differ. Quoted, because gRPC's classes
# are generic in their stubs alone.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CallGuard:
    """Lets calls in, admits their callers, ends those that raised with the status for it, and counts them."""

    def __init__(
        self, admission: Admission, gate: CallGate, limits: StreamLimits, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._admission = admission
        self._gate = gate
        self._limits = limits
        self._telemetry = telemetry
        self._patience = Patience[Stream](lambda: SLOW_CLIENT_S, lambda stream: stream.end(WatcherTooSlow()))

    def guarded(self, method: str, handler: Handler) -> Handler:
        """Return the handler to serve a method with; `method`: its full name, `/package.Service/Name`."""
        if not method.startswith(API_PREFIX):
            opened: Handler = reading(handler)
            return opened
        name = method.removeprefix(API_PREFIX)
        if handler.request_streaming:
            raise NotImplementedError("no method of the API streams requests")
        # Requests are read inside the guard: after the caller was admitted, and with a status if they fail.
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._guard_stream(handler, name),
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._guard_unary(handler, name),
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, handler: Any, name: str) -> Any:
        read, method = handler.request_deserializer, handler.unary_unary

        async def call(request: bytes, context: Context) -> Any:
            ending, started = _Ending(), time.perf_counter()
            try:
                with self._gate:
                    await self._admit(name, context)
                    response = await method(_parse(read, request), context)
                ending.code = "OK"
                return response
            except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
                await self._abort(context, error, ending)
            finally:
                self._telemetry.call_ended(name, ending.code, time.perf_counter() - started)

        return call

    def _guard_stream(self, handler: Any, name: str) -> Any:
        read, method = handler.request_deserializer, handler.unary_stream

        async def call(request: bytes, context: Context) -> None:
            ending = _Ending()
            try:
                with self._gate:
                    await self._admit(name, context)
                    # A client that goes away cancels this call: the method's own clean-up runs then.
                    with self._limits.new(self._admission.streams, access()) as stream:
                        await self._admission.hold(stream)
                        outlet = Outlet(context, stream, self._patience)
                        await method(_parse(read, request), outlet)
                ending.code = "OK"
            except Exception as error:  # noqa: BLE001  as above
                if isinstance(error, grpc.aio.InternalError):
                    # What was under way to a client that has gone fails before gRPC cancels the call for it.
                    await asyncio.sleep(GONE_S)
                if isinstance(error, WatcherTooSlow):
                    self._note_slow(read(request))
                await self._abort(context, error, ending)
            finally:
                self._telemetry.call_ended(name, ending.code, None)

        return call

    def _note_slow(self, request: Any) -> None:
        self._telemetry.slow_watch_closed()
        _log.warning(
            "a watch was closed: its client did not keep up",
            extra={"event": "slow_watch_closed", "project": caller(), **_watched(request)},
        )

    async def _admit(self, name: str, context: Context) -> None:
        await self._admission.admit(name, tuple(context.invocation_metadata() or ()), context.peer())

    async def _abort(self, context: Context, error: Exception, ending: "_Ending") -> Never:
        status = to_status(error)
        ending.code = code_pb2.Code.Name(status.code)
        await context.abort_with_status(to_grpc_status(status))


class _Ending:
    """How a call ended. It is cancelled where nothing else was noted: the client went away."""

    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code = "CANCELLED"


def _watched(request: Any) -> dict[str, str]:
    """Return what a log line says of the subject of a watch; of one of all tasks nothing."""
    if not isinstance(request, WatchRequest):
        return {}
    subject = {"task": request.task_id, "queue": request.queue}
    return {name: value for name, value in subject.items() if value}


def _parse(read: Callable[[bytes], Any], request: bytes) -> Any:
    try:
        return read(request)
    except DecodeError:
        fault = "is no message of the type that this method takes, or has a string that is not UTF-8"
        raise InvalidFields([Violation("request", fault)]) from None
