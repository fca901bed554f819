"""The gRPC server: its services, its options, its life."""

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub
from kuueri_grpc.pb import project_service_pb2, server_service_pb2, task_service_pb2
from kuueri_grpc.pb.project_service_pb2_grpc import add_ProjectServiceServicer_to_server
from kuueri_grpc.pb.server_service_pb2_grpc import add_ServerServiceServicer_to_server
from kuueri_grpc.pb.task_service_pb2_grpc import add_TaskServiceServicer_to_server
from kuueri_grpc.ports import NO_TELEMETRY, Clock, Telemetry
from kuueri_grpc.service.admission import Admission
from kuueri_grpc.service.aio_server import aio_server
from kuueri_grpc.service.certificates import CertificateFiles, Certificates
from kuueri_grpc.service.connections import ClientConnections
from kuueri_grpc.service.gate import CallGate
from kuueri_grpc.service.guard import CallGuard
from kuueri_grpc.service.health import NOT_SERVING, SERVING, HealthService
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.open_methods import OpenMethods
from kuueri_grpc.service.peers import Peers
from kuueri_grpc.service.projects import ProjectService
from kuueri_grpc.service.reflection import add_reflection
from kuueri_grpc.service.server_info import About, ServerService, server_info
from kuueri_grpc.service.streams import StreamLimits
from kuueri_grpc.service.tasks import TaskService
from kuueri_grpc.service.wire import WireLimits

SERVICES = (
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name,
    project_service_pb2.DESCRIPTOR.services_by_name["ProjectService"].full_name,
    server_service_pb2.DESCRIPTOR.services_by_name["ServerService"].full_name,
)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


@dataclass(frozen=True, slots=True)
class EngineApi:
    """What the services call, and tell of calls."""

    commands: Commands
    watches: WatchHub
    projects: Projects
    authenticator: Authenticator
    clock: Clock
    throttle: CallThrottle
    telemetry: Telemetry = NO_TELEMETRY


_FOREVER_S = 1e9
#: Those that are closed and not stopped: one that nobody holds would be stopped by grpc.aio.
_closed: "set[GrpcServer]" = set()


class GrpcServer:
    """The server of one process. `port` is the bound one; it is served from `start` to `stop`.

    Health: NOT_SERVING until `start`, and again from `drain` on.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        gate: CallGate,
        health: HealthService,
        connections: ClientConnections,
        port: int,
    ) -> None:
        self._server = server
        self._gate = gate
        self._health = health
        self.connections = connections
        self._stopping = False
        self.port = port

    async def start(self) -> Self:
        """Take calls from now on."""
        await self._server.start()
        self.set_serving(serving=True)
        return self

    def set_serving(self, *, serving: bool) -> None:
        """Tell health checks whether the service works, of the server ("") and of each service."""
        self._health.set_all(SERVING if serving else NOT_SERVING)

    def drain(self) -> None:
        """Tell health checks, for good, that the server is stopping. Calls are still taken."""
        self._health.stop()

    async def close(self, grace_s: float) -> None:
        """Refuse new calls with UNAVAILABLE from now on; return when none is under way, in `grace_s` seconds.

        The port stays bound, and calls refused, until `stop` or until the process ends. Its end is the better
        one: to a call that has arrived and was not begun gRPC's server says CANCELLED when it is stopped,
        which to the caller is its own doing, and no reason to try elsewhere. A connection that the kernel
        closes is UNAVAILABLE.
        """
        self._stopping = True
        _closed.add(self)
        await self._gate.close(grace_s)

    async def stop(self, grace_s: float) -> None:
        """Close it, wait until no more calls come if there is time, then close all connections.

        They are closed below gRPC, which would cancel what is open or has just arrived: see `close`.
        """
        deadline = time.monotonic() + grace_s
        await self.close(grace_s)
        self.connections.stop_listening()
        await self._gate.silence(deadline - time.monotonic())
        self.connections.close_all()
        await self._server.stop(0)
        _closed.discard(self)

    async def wait_closed(self) -> None:
        """Return when the server was stopped.

        Raises:
            RuntimeError: It ended by itself. Nobody is answered any more.
        """
        # With a time limit it leaves the server as it is when this is cancelled, without one it does not.
        await self._server.wait_for_termination(_FOREVER_S)
        if not self._stopping:
            raise RuntimeError("the gRPC server has ended by itself")


def _listeners(host: str) -> int:
    """Return how many addresses a host has, each of which gRPC listens on."""
    with contextlib.suppress(OSError):
        return len(set(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)))
    return 1  # binding it says what is wrong


async def build_server(  # noqa: PLR0913  all that a server is made of
    engine: EngineApi,
    limits: Limits,
    wire: WireLimits = WireLimits(),  # noqa: B008  it is frozen
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    reuse_port: bool = False,
    certificates: CertificateFiles | None = None,
    admin_token: str | None = None,
    about: About = About(),  # noqa: B008  it is frozen
) -> GrpcServer:
    """Return a server, bound but not started. Port 0 picks a free one.

    `reuse_port` lets other processes bind the same port; the kernel spreads the connections. Without
    `certificates` it is served in plain text. Register needs the `admin_token`; None: anybody may call it.
    `about`: what GetServerInfo tells beside the limits.

    Raises:
        OSError: The address cannot be bound.
        CertificateError: The certificates cannot be used.
    """
    credentials = None if certificates is None else Certificates(certificates, engine.telemetry).credentials()
    gate = CallGate()
    peers = Peers(wire.peer_failures, wire.peer_registrations, engine.telemetry)
    guard = CallGuard(
        Admission(engine.authenticator, engine.throttle, peers, admin_token),
        gate,
        StreamLimits(wire.max_watches, wire.longest_stream_s),
        OpenMethods(wire.max_open_streams),
        wire.max_message_bytes,
        limits.max_batch,
        engine.telemetry,
    )
    server = aio_server(
        guard.guarded,
        [("grpc.so_reuseport", int(reuse_port)), *wire.options(_listeners(host))],
    )
    add_TaskServiceServicer_to_server(
        TaskService(
            engine.commands,
            engine.watches,
            engine.projects,
            engine.clock,
            limits,
            engine.throttle,
            engine.telemetry,
        ),
        server,
    )
    add_ProjectServiceServicer_to_server(ProjectService(engine.projects), server)
    info = server_info(about, limits, wire, has_admin_token=admin_token is not None)
    add_ServerServiceServicer_to_server(ServerService(info), server)
    health = HealthService(SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(server, [*SERVICES, HEALTH])
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}; is another server using it? ({error})") from error
    return GrpcServer(server, gate, health, ClientConnections(bound, wire.max_connections), bound)
