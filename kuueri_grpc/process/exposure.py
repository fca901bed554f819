"""Who can reach what a server listens on."""

import logging

from kuueri_grpc.config import Settings
from kuueri_grpc.domain.hosts import is_loopback
from kuueri_grpc.process.errors import StartError

_log = logging.getLogger(__name__)

#: Tasks of a project where no limit is set: on a server that projects share, and on one of a single user.
SHARED_QUEUE_LIMIT, PERSONAL_QUEUE_LIMIT = 1_000, 100_000


def queue_limit(settings: Settings) -> int:
    """Return how many tasks of one project may be unfinished at a time."""
    limit = settings.service.queue.limit
    if limit is not None:
        return limit
    # Reached from this machine alone, and open to registration: there is nobody to be protected from.
    is_personal = settings.admin_token is None and is_loopback(settings.host)
    return PERSONAL_QUEUE_LIMIT if is_personal else SHARED_QUEUE_LIMIT


def check_exposure(settings: Settings) -> None:
    """Refuse to serve in plain text, or to register anybody, beyond this machine, unless that was asked for.

    Raises:
        StartError: tokens and tasks could be read on their way, or whoever comes along could have tasks run.
    """
    if settings.admin_port is not None and not is_loopback(settings.admin_host):
        _log.warning(
            "the admin endpoint listens on %s, beyond this machine, and has no authentication: "
            "let your monitoring alone reach it",
            settings.admin_host,
            extra={"event": "admin_exposed"},
        )
    if "api" not in settings.roles or is_loopback(settings.host):
        return
    _check_registration(settings)
    if settings.tls.cert is not None:
        return
    if not settings.insecure:
        raise StartError(
            f"gRPC would be in plain text on {settings.host}, beyond this machine: tokens and tasks could be "
            "read on their way; give --tls-cert and --tls-key, listen on 127.0.0.1, or pass --insecure "
            "(INSECURE) where the network is your own or something in front of the server has TLS"
        )
    _log.warning(
        "gRPC is in plain text on %s, beyond this machine", settings.host, extra={"event": "plain_text"}
    )


def _check_registration(settings: Settings) -> None:
    if settings.admin_token is not None:
        return
    if settings.level != "DEVELOPMENT":
        raise StartError(
            f"registration would be open on {settings.host}, beyond this machine: whoever reaches it could "
            "make a project and have tasks run; set TASKS_ADMIN_TOKEN (ADMIN_TOKEN in the configuration "
            "file) to a long random text, which Register needs then, listen on 127.0.0.1, or set LEVEL to "
            "DEVELOPMENT"
        )
    _log.warning(
        "anybody who reaches %s may register a project: LEVEL is DEVELOPMENT, and there is no ADMIN_TOKEN",
        settings.host,
        extra={"event": "open_registration"},
    )
