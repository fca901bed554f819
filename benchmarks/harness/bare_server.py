"""`python -m benchmarks.harness.bare_server SOCKET`: a grpc.aio server that does the least.

Its Subscribe reads no message and asks for no token: one script call on the store, and the same bytes back.
What gRPC in Python and one trip to the store cost by themselves, to hold the server's own Subscribe against.
Prints its address when it serves.
"""

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio
import uvloop
from redis.asyncio import Redis

from kuueri_grpc.pb import task_service_pb2

_SERVICE = task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
_KEY = "bench:bare"
_SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)"
_CONNECTIONS = 64


async def _serve(socket: str) -> None:
    async with Redis(unix_socket_path=socket, max_connections=_CONNECTIONS) as store:
        digest = await store.script_load(_SCRIPT)

        async def subscribe(request: bytes, _context: Any) -> bytes:
            await store.evalsha(digest, 1, _KEY, request)
            return request

        # Without (de)serialisers requests and answers are the bytes that travel.
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(subscribe)
        server = grpc.aio.server()
        server.add_registered_method_handlers(_SERVICE, {"Subscribe": handler})
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Subscribe": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))
