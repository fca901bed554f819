"""grpc.aio's server, without three faults of it that one caller can use against the others.

grpc.aio (1.85) takes calls in one loop for all methods:

- The loop reads the path of a call as UTF-8 to look up its method. A path that is not UTF-8 ends the loop,
  and with it the server. No token is needed to send one.
- It asks gRPC's core for one call of a method at a time. Calls that arrive faster wait in the core, which
  cancels those beyond 1,000 at random, and all that are older than 30 s. Their clients get CANCELLED.
- A call that ends while its answer is sent (its deadline passes, or its client goes away) is logged as an
  error, with a traceback.

This module takes calls in loops of its own: per method, and for all paths that are no method. A path is never
read: the core compares it with the names of the methods. `service/wire.py` has the core keep calls that wait.

The module uses parts of grpc.aio that are not public: see docs/adr/0015-known-methods-alone.md.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

import grpc
import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

_UNKNOWN = "an unknown method"
#: Calls of one method that can be taken from the core in one turn of the event loop: at first, and at most.
_FEWEST, _MOST = 4, 64


def aio_server(
    guarded: Callable[[str, "grpc.RpcMethodHandler[Any, Any]"], "grpc.RpcMethodHandler[Any, Any]"],
    options: Sequence[tuple[str, Any]],
) -> grpc.aio.Server:
    """Return a server as `grpc.aio.server` does.

    Its methods must be added by `add_registered_method_handlers`; others are unknown to it. `guarded` returns
    the handler to serve a method with, given its full name and the one that was added.
    """
    # Its constructor makes the core that is not wanted, and has no way to be given another one.
    server = object.__new__(_server.Server)
    server._loop = cygrpc.get_working_loop()
    core = _KnownMethodsServer(server._loop, None, (), (), tuple(options), None)
    core.guarded = guarded
    core.handlers = {}
    core.under_way = set()
    server._server = core
    return cast("grpc.aio.Server", server)


class _KnownMethodsServer(cygrpc.AioServer):  # type: ignore[misc]
    guarded: Callable[[str, Any], Any]
    handlers: dict[str, Any]
    under_way: set[asyncio.Task[None]]

    def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
        guarded = {method: self.guarded(method, handler) for method, handler in method_handlers.items()}
        self.handlers.update(guarded)
        super().add_registered_method_handlers(guarded)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """Return a future for grpc.aio's loop to wait for; it ends with the server. None: unknown methods."""
        if method is None:
            return _Intake(self, _UNKNOWN, {}, self._request_call).ended
        name = method.decode()
        handlers = {name: self.handlers[name]}
        return _Intake(self, name, handlers, lambda: self._request_registered_call(method)).ended


class _Intake:
    """Takes the calls of one method from the core. `ended` fails when the server stops.

    The core hands out a call for each request for one. There are few requests at first, because each takes
    some kilobytes; there are more where the calls of one turn of the event loop have used up all.
    """

    def __init__(
        self,
        server: _KnownMethodsServer,
        name: str,
        handlers: dict[str, Any],
        request: Callable[[], Coroutine[Any, Any, Any]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._under_way = server.under_way
        self._name = name
        self._resolver = cygrpc._MethodResolver([], handlers)  # noqa: SLF001
        self._request = request
        self._takers: set[asyncio.Task[None]] = set()
        self._taken = 0
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.ended.add_done_callback(self._stop)
        self._add(_FEWEST)

    def _add(self, count: int) -> None:
        for _ in range(count):
            taker = self._loop.create_task(self._take())
            self._takers.add(taker)
            taker.add_done_callback(self._end)

    def _end(self, taker: asyncio.Task[None]) -> None:
        self._takers.discard(taker)
        error = None if taker.cancelled() else taker.exception()
        if error is not None and not self.ended.done():
            self.ended.set_exception(error)

    def _stop(self, _: object) -> None:
        for taker in self._takers:
            taker.cancel()

    async def _take(self) -> None:
        while True:
            self._begin(await self._request())
            if not self._taken:
                self._loop.call_soon(self._end_turn)
            self._taken += 1

    def _end_turn(self) -> None:
        if self._taken >= len(self._takers) < _MOST:
            self._add(len(self._takers))
        self._taken = 0

    def _begin(self, call: Any) -> None:
        answer = _answered(
            cygrpc._handle_rpc(self._name, self._resolver, (), call, self._loop, False)  # noqa: FBT003, SLF001
        )
        task = self._loop.create_task(
            cygrpc._schedule_rpc_coro(answer, call, self._loop, self._name)  # noqa: SLF001
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


async def _answered(call: Coroutine[Any, Any, None]) -> None:
    """Await the end of a call. One that has ended before its answer was sent counts as cancelled."""
    try:
        await call
    except cygrpc.ExecuteBatchError:
        raise asyncio.CancelledError from None
