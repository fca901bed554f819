"""The methods that need no token: health and reflection. No other method is served without one.

What such a call may cost is small and bounded by address: `OPEN` in `method_limits` bounds the bytes of its
message, `Receiver` the messages that are received at once, and `OpenStreams` the streams that are open. No
stream keeps its request.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Never, TypeAlias

import grpc
import grpc.aio
from grpc_status.rpc_status import to_status as to_grpc_status

from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.service.errors import forget_frames, to_status
from kuueri_grpc.service.message_errors import TooManyOpenStreams
from kuueri_grpc.service.method_limits import OPEN
from kuueri_grpc.service.parsing import parse
from kuueri_grpc.service.peers import network_of
from kuueri_grpc.service.receiver import ReceiveLimits, Receiver

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "ServerReflectionInfo"
OPEN_METHODS = frozenset(
    {
        f"{_HEALTH}Check",
        f"{_HEALTH}List",
        f"{_HEALTH}Watch",
        f"/grpc.reflection.v1.ServerReflection/{_REFLECTION}",
        f"/grpc.reflection.v1alpha.ServerReflection/{_REFLECTION}",
    }
)

#: How long such a call may take until its message has arrived, the next one in a stream too.
_WAIT_S = 10.0
_RECEIVED = ReceiveLimits(per_caller=4, guaranteed=2)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class OpenStreams:
    """The streams of each address. `most`: how many it may have open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_of(self, peer: str) -> Iterator[None]:
        """Count a stream while the block runs. Raises `TooManyOpenStreams`."""
        if self._open[peer] >= self._most:
            raise TooManyOpenStreams(peer, self._most)
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


class OpenMethods:
    """Serves them. `most_streams`: those that one address may have open."""

    def __init__(self, most_streams: int) -> None:
        self._streams = OpenStreams(most_streams)
        self._receiver = Receiver(_RECEIVED, _WAIT_S)

    def opened(self, handler: Any) -> Any:
        """Return the handler to serve a method with.

        All are served as methods that stream requests, because those receive their messages themselves.
        """
        serializer = handler.response_serializer
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._conversing(handler), response_serializer=serializer
            )
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._writing(handler), response_serializer=serializer
            )
        return grpc.stream_unary_rpc_method_handler(self._answering(handler), response_serializer=serializer)

    def _answering(self, handler: Any) -> Any:
        async def call(_: object, context: Context) -> Any:
            try:
                # Not counted with streams, which may wait for long: a client that keeps some open, as of
                # reflection, is not to hold up the health checks that come from its address.
                request = await self._read(handler, f"{network_of(context.peer())} unary", context)
            except KuueriError as error:
                await _abort(context, error)
            return await handler.unary_unary(request, context)

        return call

    def _writing(self, handler: Any) -> Any:
        async def call(_: object, context: Context) -> None:
            peer = network_of(context.peer())
            try:
                with self._streams.one_of(peer):
                    await handler.unary_stream(await self._read(handler, peer, context), context)
            except KuueriError as error:
                await _abort(context, error)

        return call

    def _conversing(self, handler: Any) -> Any:
        async def call(_: object, context: Context) -> None:
            peer = network_of(context.peer())
            try:
                with self._streams.one_of(peer):
                    async with aclosing(
                        handler.stream_stream(self._read_all(handler, peer, context), context)
                    ) as answers:
                        async for answer in answers:
                            await context.write(answer)
            except KuueriError as error:
                await _abort(context, error)

        return call

    async def _read(self, handler: Any, peer: str, context: Context) -> Any:
        message = await self._receiver.receive(context, peer, OPEN)
        self._receiver.release(peer, len(message))
        return parse(handler.request_deserializer, message)

    async def _read_all(self, handler: Any, peer: str, context: Context) -> AsyncIterator[Any]:
        while (message := await self._receiver.receive_next(context, peer, OPEN)) is not None:
            self._receiver.release(peer, len(message))
            yield parse(handler.request_deserializer, message)


async def _abort(context: Context, error: KuueriError) -> Never:
    forget_frames(error)
    await context.abort_with_status(to_grpc_status(to_status(error)))
