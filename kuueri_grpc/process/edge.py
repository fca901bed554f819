"""The gRPC server, as the settings have it."""

from kuueri_grpc import __version__
from kuueri_grpc.config import Settings
from kuueri_grpc.config.edge import ModuleSettings, ThrottlerSettings
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.ports import StoreIdentity
from kuueri_grpc.process.exposure import queue_limit
from kuueri_grpc.service.certificates import CertificateFiles
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.server import EngineApi, GrpcServer, build_server
from kuueri_grpc.service.server_info import About
from kuueri_grpc.service.wire import WireLimits


def call_rate(throttler: ThrottlerSettings) -> Rate | None:
    """Return how many calls a project may make; None: as many as it likes."""
    return _rate(throttler.limit, throttler)


def _rate(limit: int, throttler: ThrottlerSettings) -> Rate | None:
    return Rate(limit, throttler.ttl) if limit else None


def target_policy(settings: Settings) -> TargetPolicy:
    """Return where tasks may be sent."""
    return TargetPolicy(map(str, settings.allow_target), map(str, settings.deny_target))


async def open_edge(
    settings: Settings, engine: EngineApi, targets: TargetPolicy, store: StoreIdentity
) -> GrpcServer:
    """Return the server, bound but not started; its port is reserved, see `port`.

    Raises:
        OSError: the address cannot be bound.
        CertificateError: the certificates cannot be used.
    """
    admin_token = settings.admin_token
    return await build_server(
        engine,
        Limits(max_body_bytes=settings.module.http.max_body_length, targets=targets),
        _wire_limits(settings.module),
        host=settings.host,
        port=settings.port,
        reuse_port=True,
        certificates=_certificate_files(settings),
        admin_token=None if admin_token is None else admin_token.get_secret_value(),
        about=About(
            __version__,
            store,
            queue_limit(settings),
            settings.history_ms,
            call_rate(settings.module.throttler),
        ),
    )


def _wire_limits(module: ModuleSettings) -> WireLimits:
    grpc, throttler = module.grpc, module.throttler
    return WireLimits(
        max_message_bytes=grpc.max_message_length,
        max_metadata_bytes=grpc.max_metadata_length,
        max_connections=grpc.max_connections,
        max_streams=grpc.max_concurrent_streams,
        max_watches=grpc.max_watches,
        max_open_streams=grpc.max_open_streams,
        max_age_s=grpc.max_connection_age or None,
        age_grace_s=grpc.max_connection_age_grace,
        max_idle_s=grpc.max_connection_idle or None,
        keepalive_s=grpc.keepalive_time,
        keepalive_timeout_s=grpc.keepalive_timeout,
        min_ping_s=grpc.min_ping_interval,
        handshake_s=grpc.handshake_timeout,
        peer_failures=_rate(throttler.auth_failures, throttler),
        peer_registrations=_rate(throttler.registrations, throttler),
    )


def _certificate_files(settings: Settings) -> CertificateFiles | None:
    cert, key = settings.tls.cert, settings.tls.key
    return None if cert is None or key is None else CertificateFiles(cert, key, settings.tls.client_ca)
