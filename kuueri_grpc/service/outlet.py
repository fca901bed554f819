"""The way out for the messages of a stream."""

from typing import Any, TypeAlias

import grpc.aio

from kuueri_grpc.engine.patience import Patience
from kuueri_grpc.engine.streams import Stream

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Outlet:
    """Where a method of the API sends the messages of a stream to."""

    __slots__ = ("_begun", "_context", "_patience", "_stream")

    def __init__(self, context: Context, stream: Stream, patience: Patience[Stream]) -> None:
        self._context = context
        self._stream = stream
        self._patience = patience
        self._begun = False

    async def write(self, message: Any) -> None:
        """Send a message. A client that takes none for long holds memory here, and is let go.

        It is the stream that ends then, with `WatcherTooSlow`: gRPC's buffers are full, and stayed so.
        """
        if not self._begun:
            # Else the message carries the metadata; broken off there, gRPC would send them again with the
            # status, fail at that, and leave the client with a stream that never ends. Not sooner than this:
            # a call that is refused with a status alone may be repeated by the client's gRPC itself.
            await self._stream.whole(self._context.send_initial_metadata(()))
            self._begun = True
        self._patience.begin(self._stream)
        try:
            await self._context.write(message)
        finally:
            self._patience.end(self._stream)
