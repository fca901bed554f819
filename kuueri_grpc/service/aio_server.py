"""grpc.aio's server, but for a fault by which one packet of anybody ends it.

To look for the method of a call, grpc.aio (1.85) reads the path as UTF-8 in the loop that takes calls. A path
that is none ends this loop, and with it the server, for good; no token is needed to send one. Here that loop
takes calls of known methods alone, whose paths it need not read: gRPC's core has compared them. All other
calls are answered UNIMPLEMENTED by a loop of our own, which reads nothing of them.

It leans on parts of grpc.aio that are not public: see docs/adr/0015-known-methods-alone.md.
`tests/fuzz/test_garbage.py` has the packet.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import grpc
import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

_UNKNOWN = "an unknown method"


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
    server._server = core
    return cast("grpc.aio.Server", server)


class _KnownMethodsServer(cygrpc.AioServer):  # type: ignore[misc]
    guarded: Callable[[str, Any], Any]

    def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
        super().add_registered_method_handlers(
            {method: self.guarded(method, handler) for method, handler in method_handlers.items()}
        )

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """Return what is done when there is a call of the method. None: of any other, which never is."""
        if method is not None:
            return cast("asyncio.Future[Any]", super()._make_request_call_future(method))
        return asyncio.get_running_loop().create_task(self._refuse_unknown_methods())

    async def _refuse_unknown_methods(self) -> None:
        """Answer calls of methods that are not registered, until the server stops and this raises."""
        loop = asyncio.get_running_loop()
        none = cygrpc._MethodResolver([], {})  # noqa: SLF001
        answering = set()
        while True:
            call = await self._request_call()
            answer = cygrpc._handle_rpc(_UNKNOWN, none, (), call, loop, False)  # noqa: FBT003, SLF001
            task = loop.create_task(cygrpc._schedule_rpc_coro(answer, call, loop, _UNKNOWN))  # noqa: SLF001
            answering.add(task)
            task.add_done_callback(answering.discard)
