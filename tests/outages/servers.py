"""`kuueri serve` on an external store, and what its health checks say."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.acceptance.caller import connected
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
#: Shorter than by default, so that what is to be waited out is short; long enough for a process that a busy
#: machine lets stand still for two seconds to keep its leases.
TIMEOUT_MS = 1_000
LEASE_MS = 3_000

_ENVIRONMENT = {
    "TASKS_WORKERS": "1",
    "TASKS_DATABASE__PARTITIONS": "8",
    "TASKS_DATABASE__REDIS__TIMEOUT_MS": str(TIMEOUT_MS),
    "TASKS_SERVICE__LEASE_MS": str(LEASE_MS),
}


async def logged(directory: Path, text: str) -> None:
    """Return when the server that runs in a directory has logged something."""
    log = directory / "serve.log"
    async with asyncio.timeout(PATIENCE_S):
        # Nobody tells when a line is written to a file.
        while not await asyncio.to_thread(lambda: log.exists() and text in log.read_text()):
            pass


class Served(Server):
    """A server, and a channel to it."""

    def __init__(self, directory: Path, store_url: str, env: dict[str, str]) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory, "--redis-url", store_url, *LOOPBACK, env=_ENVIRONMENT | env)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def end(self) -> None:
        """Stop it as an init system does. Faults were logged: that is what they were made for."""
        process, self._process = self._process, None
        if process is not None and process.running:
            process.send(signal.SIGTERM)
            assert process.wait() == 0, self.log
            process.assert_group_is_gone()


@asynccontextmanager
async def serving(
    directory: Path, store_url: str, env: dict[str, str] | None = None
) -> AsyncIterator[tuple[Served, grpc.aio.Channel]]:
    """Run a server, which must survive whatever happens in the block, and end in order after it."""
    server = Served(directory, store_url, env or {})
    # In a thread: what it talks to may be in this process.
    await asyncio.to_thread(server.start)
    try:
        async with connected(server.address) as channel:
            yield server, channel
        assert server.running, server.log
    finally:
        await asyncio.to_thread(server.end)


@asynccontextmanager
async def health(channel: grpc.aio.Channel) -> AsyncIterator["Health"]:
    """Follow the server's health; it must be SERVING."""
    # The stubs of this package name no methods.
    stub: Any = health_pb2_grpc.HealthStub(channel)
    stream = stub.Watch(health_pb2.HealthCheckRequest())
    following = Health(stream)
    await following.becomes(SERVING)
    try:
        yield following
    finally:
        stream.cancel()


class Health:
    """The stream of a health check."""

    def __init__(self, stream: AsyncIterator[health_pb2.HealthCheckResponse]) -> None:
        self._stream = stream

    async def becomes(self, wanted: int) -> None:
        """Return when that is what the server says of itself."""
        async with asyncio.timeout(PATIENCE_S):
            async for response in self._stream:
                if response.status == wanted:
                    return
        raise AssertionError("the health check ended")
