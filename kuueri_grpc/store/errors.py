"""What a client library's errors mean to us, in one place."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from redis import exceptions as redis_errors
from redis.exceptions import RedisError

from kuueri_grpc.domain.errors import StoreUnavailable

#: Every failure to get an answer from the store.
OUTAGES = (RedisError, redis_errors.RedisClusterException, OSError, TimeoutError)


class ErrorKind(StrEnum):
    """Why the store did not serve, as metrics and log lines name it."""

    #: No connection, or it broke.
    CONNECTION = "connection"
    #: Connected, and no answer in time: frozen, overloaded, or the network is cut.
    TIMEOUT = "timeout"
    #: It has started and reads its data.
    LOADING = "loading"
    #: A replica was asked: a fail-over is under way.
    READONLY = "readonly"
    #: It cannot write its own files.
    MISCONF = "misconf"
    #: Fewer replicas than `min-replicas-to-write`.
    NOREPLICAS = "noreplicas"
    #: Its memory is full; only what is new is refused.
    OOM = "oom"
    #: A cluster without an owner for the slot.
    CLUSTER = "cluster"
    #: It is held up by a script that runs for long.
    BUSY = "busy"
    #: Wrong credentials, or a user who may not do this.
    AUTH = "auth"
    #: Any other refusal.
    OTHER = "other"


#: By the first class that fits: some of the library's are subclasses of others.
_KINDS: tuple[tuple[type[BaseException], ErrorKind], ...] = (
    (redis_errors.BusyLoadingError, ErrorKind.LOADING),
    (redis_errors.MasterDownError, ErrorKind.READONLY),
    (redis_errors.ReadOnlyError, ErrorKind.READONLY),
    (redis_errors.OutOfMemoryError, ErrorKind.OOM),
    (redis_errors.AuthenticationError, ErrorKind.AUTH),
    (redis_errors.AuthorizationError, ErrorKind.AUTH),
    (redis_errors.NoPermissionError, ErrorKind.AUTH),
    (redis_errors.ClusterError, ErrorKind.CLUSTER),
    (redis_errors.RedisClusterException, ErrorKind.CLUSTER),
    (redis_errors.AskError, ErrorKind.CLUSTER),
    (redis_errors.ClusterDownError, ErrorKind.CLUSTER),
    (redis_errors.TimeoutError, ErrorKind.TIMEOUT),
    (TimeoutError, ErrorKind.TIMEOUT),
    (redis_errors.ConnectionError, ErrorKind.CONNECTION),
    (OSError, ErrorKind.CONNECTION),
)
#: Answers that the library has no class for, by their first word.
_ANSWERS = {
    "MISCONF": ErrorKind.MISCONF,
    "NOREPLICAS": ErrorKind.NOREPLICAS,
    "NOAUTH": ErrorKind.AUTH,
    "MASTERDOWN": ErrorKind.READONLY,
    "CLUSTERDOWN": ErrorKind.CLUSTER,
    "OOM": ErrorKind.OOM,
    "BUSY": ErrorKind.BUSY,
}
#: What a caller is told. The rest is for the operator, whose log has the error itself.
_TEXTS = {
    ErrorKind.CONNECTION: "it cannot be reached",
    ErrorKind.TIMEOUT: "it does not answer in time",
    ErrorKind.LOADING: "it is loading its data",
    ErrorKind.READONLY: "it is a replica; a fail-over is under way",
    ErrorKind.MISCONF: "it cannot write to its disk",
    ErrorKind.NOREPLICAS: "it has too few replicas",
    ErrorKind.OOM: "its memory is full, so nothing new is accepted; tasks that were accepted still run",
    ErrorKind.CLUSTER: "a part of its cluster is down",
    ErrorKind.BUSY: "it is busy with a script",
    ErrorKind.AUTH: "it does not accept this server's credentials",
}
_CERTIFICATE_FAULT = re.compile(r"certificate verify failed: (.*?)(?: \(_ssl\.c:\d+\))?\.?$", re.DOTALL)
#: Letters of an error's text that are shown.
_MOST_WORDS = 300


def kind_of(error: BaseException) -> ErrorKind:
    """Return why the store did not serve."""
    for known, kind in _KINDS:
        if isinstance(error, known):
            return kind
    return _ANSWERS.get(str(error).partition(" ")[0], ErrorKind.OTHER)


def certificate_fault(error: BaseException) -> str:
    """Return why the store's certificate was not accepted, if a failure is of that; '' if not."""
    # The library makes an error of its own of it, with nothing of that error but its text.
    found = _CERTIFICATE_FAULT.search(str(error))
    return found[1] if found else ""


def words_of(error: BaseException) -> str:
    """Return what the store itself said as it refused a call, for the operator; '' where it said nothing."""
    if not isinstance(error, redis_errors.ResponseError):
        return ""
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return text[:_MOST_WORDS]


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return what a caller is told of a failure to get an answer."""
    why = _TEXTS.get(kind_of(error), "it refused the call")
    return StoreUnavailable(f"the store does not serve now: {why}")


@contextmanager
def outages_mapped() -> Iterator[None]:
    """Turn every failure to get an answer from the store into `StoreUnavailable`.

    Whatever the store answers instead of serving (LOADING, READONLY, MISCONF, OOM, a lost connection,
    a time-out) is an outage to the caller: it may pass, and the call can be repeated.
    """
    try:
        yield
    except OUTAGES as error:
        raise unavailable(error) from error
