"""From an attempt to the request on the wire.

The request is handed over complete: the sender adds no header of its own.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from kuueri_grpc.dispatcher.message import Header, Request
from kuueri_grpc.dispatcher.reader import authenticates_connection
from kuueri_grpc.dispatcher.signing import sign
from kuueri_grpc.dispatcher.url import Target
from kuueri_grpc.domain.task import BODILESS_METHODS
from kuueri_grpc.ports import Delivery

_USER_AGENT = (b"user-agent", b"Kuueri-Tasks")
_CREDENTIALS = frozenset({b"authorization", b"proxy-authorization"})
_DEFAULTS = ((b"content-type", b"application/json"), (b"accept", b"application/json"))


def build_request(delivery: Delivery, where: Target, now_ms: int) -> Request:
    """Return the request of an attempt that is sent to `where`, the URL of its task, at `now_ms`.

    Raises:
        ValueError: a header's name or a secret is malformed. Subscribe refuses such a task, so this is a
            fault of ours.
    """
    target = delivery.target
    headers = [(b"host", where.authority), _USER_AGENT]
    from_task, names = _task_headers(target.headers)
    headers += from_task
    headers += _kuueri_headers(delivery)
    if delivery.signing_secrets:
        headers += _signature(delivery, now_ms)
    if target.body or target.method not in BODILESS_METHODS:
        headers.append((b"content-length", b"%d" % len(target.body)))
    keeps_connection = names.isdisjoint(_CREDENTIALS) or not any(
        name.lower() in _CREDENTIALS and authenticates_connection(value) for name, value in from_task
    )
    return Request(target.method.value, where, headers, target.body, keeps_connection)


def _task_headers(headers: Mapping[str, str]) -> tuple[list[Header], set[bytes]]:
    """Return what the task sets with the defaults that it does not set; and the names that it sets."""
    raw = [(name.encode("ascii"), value.encode()) for name, value in headers.items()]
    names = {name.lower() for name, _ in raw}
    # The user agent is the sender's, also where the task names one.
    kept = raw if b"user-agent" not in names else [item for item in raw if item[0].lower() != b"user-agent"]
    return kept + [default for default in _DEFAULTS if default[0] not in names], names


def _kuueri_headers(delivery: Delivery) -> list[Header]:
    """Return the headers by which the target can tell retries and repetitions from first attempts."""
    retry, repeat = delivery.retry_count, delivery.repeat_count
    headers = [
        (b"X-Kuueri-Tasks-Attempt", b"%d" % delivery.attempt),
        (b"X-Kuueri-Tasks-Schedule-Time", _rfc3339(delivery.schedule_time_ms)),
    ]
    if retry or repeat:
        headers.append((b"X-Kuueri-Tasks-Queue", delivery.task_id.encode()))
    if retry:
        headers.append((b"X-Kuueri-Tasks-Retry-Count", b"%d" % retry))
        headers.append((b"X-Kuueri-Tasks-Currently-Retry", _more_follow(retry, delivery.retry_limit)))
    if repeat:
        headers.append((b"X-Kuueri-Tasks-Repeat-Count", b"%d" % repeat))
        headers.append((b"X-Kuueri-Tasks-Currently-Repeat", _more_follow(repeat, delivery.repeat_limit)))
    return headers


def _more_follow(count: int, limit: int) -> bytes:
    return b"true" if count < limit else b"false"


def _rfc3339(instant_ms: int) -> bytes:
    seconds, milliseconds = divmod(instant_ms, 1_000)
    return b"%b.%03dZ" % (_rfc3339_seconds(seconds), milliseconds)


@lru_cache(maxsize=64)
def _rfc3339_seconds(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _signature(delivery: Delivery, now_ms: int) -> Iterator[Header]:
    # One id for a run: the first attempt, its retries and any second delivery of them, so that a target
    # which did the work although its answer was lost recognises the next attempt. A task with the id of one
    # that was purged is another task: hence the time. The standard wants no full stop in it, because that
    # delimits what is signed.
    message_id = f"{delivery.task_id}_{delivery.create_time_ms}_{delivery.repeat_count}"
    signed = sign(message_id, now_ms // 1_000, delivery.target.body, delivery.signing_secrets)
    return ((name.encode(), value.encode()) for name, value in signed)
