"""File descriptors: how many this process may have open, and how they are shared.

A connection to a target, of a client, or to the store takes one each. Where they do not suffice for what is
configured, less runs at a time, so that none of these ever meets EMFILE: each has a share of its own.
"""

import contextlib
import logging
import resource

from kuueri_grpc.config import Settings
from kuueri_grpc.process.errors import StartError

_log = logging.getLogger(__name__)

#: What is kept for the process itself (store, signals, event loops, listeners, log, admin endpoint, name
#: servers, files): an eighth of the limit within these bounds. A process that serves has 30 open.
_LEAST_OWN, _MOST_OWN, _OWN_PART = 56, 512, 8
#: Fewer than this beside its own, and a process has no use for them.
_LEAST_SHARED = 32
#: Descriptors of 4 attempts: several addresses of one host may be dialled at the same time.
_PER_FOUR_ATTEMPTS = 5
_HOW = "`ulimit -n`, LimitNOFILE= of systemd, `ulimits` of Compose, --ulimit nofile= of docker run"
#: For arithmetic, where the system sets no limit.
_UNLIMITED = 1 << 30


def raise_limit() -> None:
    """Raise the soft limit of descriptors to the hard one, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A system may have a lower bound of its own than the hard limit says.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fitted(settings: Settings) -> Settings:
    """Return the settings with MAX_IN_FLIGHT and MAX_CONNECTIONS lowered to what the descriptors allow.

    Logs a warning where fewer attempts can be in flight than configured.

    Raises:
        StartError: there are too few descriptors to serve at all.
    """
    limit = _limit()
    shared = limit - _own(limit)
    if shared < _LEAST_SHARED:
        raise StartError(
            f"this process may have {limit} files open, too few to serve; allow it "
            f"{_LEAST_OWN + _LEAST_SHARED} at the least, or better {_enough(settings)}: {_HOW}"
        )
    max_in_flight, max_connections = settings.service.max_in_flight, settings.module.grpc.max_connections
    wanted = _of_attempts(max_in_flight) if "scheduler" in settings.roles else 0
    for_clients = max_connections if "api" in settings.roles else 0
    for_targets = min(wanted, max(shared // 2, shared - for_clients))
    connections = min(for_clients, shared - for_targets)
    in_flight = min(max_in_flight, for_targets * 4 // _PER_FOUR_ATTEMPTS) if wanted else max_in_flight
    if in_flight < max_in_flight:
        _log.warning(
            "a process may have %d files open: it runs %d attempts at a time instead of %d "
            "(SERVICE.MAX_IN_FLIGHT), and takes %d connections of clients; allow it %d: %s",
            limit,
            in_flight,
            max_in_flight,
            connections,
            _enough(settings),
            _HOW,
            extra={"event": "descriptors_short", "limit": limit, "max_in_flight": in_flight},
        )
    service = settings.service.model_copy(update={"max_in_flight": in_flight})
    grpc = settings.module.grpc.model_copy(update={"max_connections": connections or max_connections})
    module = settings.module.model_copy(update={"grpc": grpc})
    return settings.model_copy(update={"service": service, "module": module})


def target_connections(settings: Settings) -> int:
    """Return how many connections to targets, idle ones included, `fitted` settings leave room for."""
    limit = _limit()
    for_clients = settings.module.grpc.max_connections if "api" in settings.roles else 0
    return max(_of_attempts(settings.service.max_in_flight), limit - _own(limit) - for_clients)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def _own(limit: int) -> int:
    return min(_MOST_OWN, max(_LEAST_OWN, limit // _OWN_PART))


def _of_attempts(count: int) -> int:
    return -(-count * _PER_FOUR_ATTEMPTS // 4)


def _enough(settings: Settings) -> int:
    """Return a limit with which all attempts fit, and as many clients, in full thousands (1,024)."""
    return -(-(2 * _of_attempts(settings.service.max_in_flight) + _MOST_OWN) // 1_024) * 1_024
