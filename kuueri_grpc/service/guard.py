"""What happens around every call: admission, then its message, then its method, and a status when one raises.

The server has every method that is added to it guarded, of whatever package, so that a service added later is
protected without anyone thinking of it: see `Admission`. The only exceptions are listed: see `open_methods`.
This is no interceptor of grpc.aio's, which would look for the method's handler anew at each call.

gRPC serves a method that takes one message only when it has received that message, and keeps it as long as
the call. So all methods are served as such that stream requests: they receive their message themselves, after
the caller was admitted, and keep none of it. On the wire there is no difference.
"""

import asyncio
import logging
import time
from typing import Any, Never, TypeAlias

import grpc
import grpc.aio
from google.rpc import code_pb2  # type: ignore[import-untyped]
from grpc_status.rpc_status import to_status as to_grpc_status

from kuueri_grpc.domain.errors import WatcherTooSlow
from kuueri_grpc.engine.patience import Patience
from kuueri_grpc.engine.streams import Stream
from kuueri_grpc.pb.task_service_pb2 import WatchRequest
from kuueri_grpc.ports import NO_TELEMETRY, Telemetry
from kuueri_grpc.service.admission import Admission
from kuueri_grpc.service.auth import access, caller, caller_or_operator
from kuueri_grpc.service.errors import forget_frames, to_status
from kuueri_grpc.service.gate import CallGate
from kuueri_grpc.service.method_limits import method_limit
from kuueri_grpc.service.open_methods import OPEN_METHODS, OpenMethods
from kuueri_grpc.service.outlet import Outlet
from kuueri_grpc.service.parsing import parse, parser
from kuueri_grpc.service.peers import network_of
from kuueri_grpc.service.receiver import ReceiveLimits, Receiver
from kuueri_grpc.service.rooms import SHORT_MESSAGE, Rooms
from kuueri_grpc.service.streams import StreamLimits

_log = logging.getLogger(__name__)

API_PREFIX = "/kuueri.tasks.v1."
#: How long a call may take until its message has arrived.
MESSAGE_WAIT_S = 60.0
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
        self,
        admission: Admission,
        gate: CallGate,
        limits: StreamLimits,
        open_methods: OpenMethods,
        max_message_bytes: int,
        max_batch: int,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._admission = admission
        self._gate = gate
        self._limits = limits
        self._open_methods = open_methods
        self._max_message_bytes = max_message_bytes
        self._max_batch = max_batch
        self._telemetry = telemetry
        self._receiver = Receiver(ReceiveLimits(), MESSAGE_WAIT_S)
        self._rooms = Rooms()
        self._patience = Patience[Stream](lambda: SLOW_CLIENT_S, lambda stream: stream.end(WatcherTooSlow()))

    def guarded(self, method: str, handler: Handler) -> Handler:
        """Return the handler to serve a method with; `method`: its full name, `/package.Service/Name`."""
        if method in OPEN_METHODS:
            opened: Handler = self._open_methods.opened(handler)
            return opened
        if handler.request_streaming:
            raise NotImplementedError("no method with a token streams requests")
        name = method.removeprefix(API_PREFIX)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._guard_stream(handler, name),
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._guard_unary(handler, name),
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, handler: Any, name: str) -> Any:
        read, method = handler.request_deserializer, handler.unary_unary
        limit = method_limit(name, self._max_message_bytes)
        read_long = parser(name, self._max_batch)

        async def call(_: object, context: Context) -> Any:
            ending, started = _Ending(), time.perf_counter()
            sender, size, room = "", 0, 0
            message = request = None
            try:
                with self._gate:
                    sender = await self._admit(name, context)
                    message = await self._receiver.receive(context, sender, limit)
                    size = len(message)
                    if size > SHORT_MESSAGE:
                        await self._rooms.take(sender, size)
                        room = size
                    request = parse(read, message) if read_long is None else await read_long(read, message)
                    message = None
                    response = await method(request, context)
                ending.code = "OK"
                return response
            except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
                message = request = None  # see `forget_frames`
                await self._abort(context, error, ending)
            finally:
                if room:
                    self._rooms.give(sender, room)
                self._receiver.release(sender, size)
                self._telemetry.call_ended(name, ending.code, time.perf_counter() - started)

        return call

    def _guard_stream(self, handler: Any, name: str) -> Any:
        read, method = handler.request_deserializer, handler.unary_stream
        limit = method_limit(name, self._max_message_bytes)

        async def call(_: object, context: Context) -> None:
            ending = _Ending()
            subject: dict[str, str] = {}
            message = request = None
            try:
                with self._gate:
                    sender = await self._admit(name, context)
                    # A client that goes away cancels this call: the method's own clean-up runs then.
                    with self._limits.new(self._admission.streams, access()) as stream:
                        await self._admission.hold(stream)
                        message = await self._receiver.receive(context, sender, limit)
                        self._receiver.release(sender, len(message))
                        request = parse(read, message)
                        subject = _watched(request)
                        answering = method(request, Outlet(context, stream, self._patience))
                        # A stream lasts, and there are many: only the method knows what it needs of these.
                        message = request = None
                        await answering
                ending.code = "OK"
            except Exception as error:  # noqa: BLE001  as above
                message = request = None
                if isinstance(error, grpc.aio.InternalError):
                    # What was under way to a client that has gone fails before gRPC cancels the call for it.
                    await asyncio.sleep(GONE_S)
                if isinstance(error, WatcherTooSlow):
                    self._note_slow(subject)
                await self._abort(context, error, ending)
            finally:
                self._telemetry.call_ended(name, ending.code, None)

        return call

    def _note_slow(self, subject: dict[str, str]) -> None:
        self._telemetry.slow_watch_closed()
        _log.warning(
            "a watch was closed: its client did not keep up",
            extra={"event": "slow_watch_closed", "project": caller(), **subject},
        )

    async def _admit(self, name: str, context: Context) -> str:
        """Admit the caller; return who it is to the receiver: its project, or its address if it has none."""
        peer = context.peer()
        await self._admission.admit(name, tuple(context.invocation_metadata() or ()), peer)
        return caller_or_operator() or network_of(peer)

    async def _abort(self, context: Context, error: Exception, ending: "_Ending") -> Never:
        status = to_status(error)
        forget_frames(error)
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
