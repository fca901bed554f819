"""`grpc.health.v1.Health`, for load balancers and orchestrators, who have no token.

Not the servicer of grpcio-health-checking (1.85): that holds a lock while it writes to a client, so that one
client that takes nothing, and needs no token for it, has every other one and the server itself wait: the
server would never be known to stop serving, and would not get on with stopping.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
#: Its stubs lack what List takes and returns.
pb: Any = health_pb2

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(health_pb2_grpc.HealthServicer):
    """The health of the server ("") and of each service, NOT_SERVING at first."""

    def __init__(self, services: Iterable[str]) -> None:
        self._statuses: dict[str, int] = dict.fromkeys(("", *services), NOT_SERVING)
        self._news = asyncio.Event()
        self._stopping = False

    def set_all(self, status: int) -> None:
        """Tell everybody; waits for nobody."""
        if self._stopping:
            return
        self._statuses = dict.fromkeys(self._statuses, status)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def stop(self) -> None:
        """Be NOT_SERVING, for good."""
        self.set_all(NOT_SERVING)
        self._stopping = True

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802  the protocol's name, as below
        """Return the health of a service."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return pb.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Return the health of all."""
        return pb.HealthListResponse(
            statuses={name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        )

    async def Watch(self, request: Any, context: Context) -> None:  # noqa: N802
        """Write the health of a service, and again when it has changed. A slow client misses what is past."""
        # A stream lasts: it keeps the server's own name of the service, and nothing of the request.
        name = next((name for name in self._statuses if name == request.service), None)
        del request
        told: int | None = None
        while True:
            news = self._news
            status = _UNKNOWN if name is None else self._statuses[name]
            if status != told:
                await context.write(pb.HealthCheckResponse(status=status))
                told = status
            await news.wait()
