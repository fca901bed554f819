"""`ServerService`: what the server is, the same for everybody who asks."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc.aio

from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.pb import server_service_pb2 as pb
from kuueri_grpc.pb.server_service_pb2_grpc import ServerServiceServicer
from kuueri_grpc.ports import StoreIdentity, StoreKind
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.times import to_duration
from kuueri_grpc.service.wire import WireLimits

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

ADMIN_TOKEN = "admin_token"  # noqa: S105  the name of a feature
FEATURES = ("batch_requests", "register_request_id", "run_request_id", "views_by_scope")


@dataclass(frozen=True, slots=True)
class About:
    """What the edge does not know by itself. `calls`: of a project, None: as many as it likes."""

    version: str = ""
    store: StoreIdentity = field(default_factory=lambda: StoreIdentity(StoreKind.EXTERNAL))
    queue_limit: int = 0
    history_ms: int = 0
    calls: Rate | None = None


def server_info(about: About, limits: Limits, wire: WireLimits, *, has_admin_token: bool) -> pb.ServerInfo:
    """Return what is told of the server."""
    store = about.store
    info = pb.ServerInfo(
        version=about.version,
        store=pb.StoreInfo(
            kind=pb.StoreKind.Value(f"STORE_KIND_{store.kind}"), product=store.product, version=store.version
        ),
        limits=pb.ServerLimits(
            max_body_bytes=limits.max_body_bytes,
            max_message_bytes=wire.max_message_bytes,
            max_batch_tasks=limits.max_batch,
            task_in_queue_limit=about.queue_limit,
            max_watches=wire.max_watches,
            history=to_duration(about.history_ms),
        ),
        features=sorted([*FEATURES, *([ADMIN_TOKEN] if has_admin_token else [])]),
    )
    if about.calls is not None:
        info.limits.max_calls = about.calls.limit
        info.limits.call_period.CopyFrom(to_duration(round(about.calls.window_s * 1_000)))
    return info


class ServerService(ServerServiceServicer):
    """Answers with what was known when the server started: a call costs no more than to say so."""

    def __init__(self, info: pb.ServerInfo) -> None:
        self._response = pb.GetServerInfoResponse(server_info=info)

    async def GetServerInfo(  # noqa: N802  the name of the method is the contract's
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        """Read what the server is."""
        return self._response
