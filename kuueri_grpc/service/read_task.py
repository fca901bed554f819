"""Reads a task out of a request: `Task` to `TaskSpec`, every fault noted with the path of its field."""

import re
from collections.abc import Mapping, Sized
from urllib.parse import quote, urlencode

from kuueri_grpc.domain.task import (
    BODILESS_METHODS,
    DEFAULT_ATTEMPT_TIMEOUT_MS,
    DEFAULT_QUEUE,
    HttpMethod,
    HttpTarget,
    TaskSpec,
)
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.service.enums import HTTP_METHODS
from kuueri_grpc.service.headers import check_headers
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.read_policies import first_due_ms, read_repeat, read_retry, read_schedule
from kuueri_grpc.service.times import Span, read_duration
from kuueri_grpc.service.url import url_fault
from kuueri_grpc.service.violations import Violations, entry, shown

ATTEMPT_TIMEOUT = Span(1, 1_800_000, "1 ms to 1,800 s")
MAX_LABELS = 64
#: More than web servers take: most refuse a request with more than 100 to 2,000.
MAX_HEADERS = 3_000
MAX_LABEL_VALUE_LENGTH = 255
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LABEL_KEY = re.compile(r"[a-z0-9_.-]{1,63}")
_NOWHERE = HttpTarget("")


def check_identifier(text: str, field: str, violations: Violations) -> str:
    """Return a task id, queue name or request id as it came, with a violation if it is not well formed."""
    if not _IDENTIFIER.fullmatch(text):
        came = f"is {shown(text)}" if text else "is required"
        violations.add(field, f"{came}; expected 1 to 128 characters of [A-Za-z0-9_-]")
    return text


def check_label_key(key: str, field: str, violations: Violations) -> None:
    """Note a key that no label can have."""
    if not _LABEL_KEY.fullmatch(key):
        violations.add(entry(field, key), "is no label key; expected 1 to 63 characters of [a-z0-9_.-]")


def read_task(
    message: task_pb2.Task, field: str, limits: Limits, now_ms: int, violations: Violations
) -> TaskSpec:
    """Return what the task asks for, with `task_id` empty where the server is to make one.

    `field` is the path of the task in the request. The spec counts only if no violation was added.
    Fields that only the server sets are ignored.
    """
    task_id, queue = message.task_id, message.queue
    if task_id:
        check_identifier(task_id, f"{field}.task_id", violations)
    if queue:
        check_identifier(queue, f"{field}.queue", violations)
    if message.HasField("http_target"):
        target = _read_target(message.http_target, f"{field}.http_target", limits, violations)
    else:
        target = _NOWHERE
        violations.add(f"{field}.http_target", "is required; expected the HTTP request to make")
    schedule = read_schedule(message, field, now_ms, violations)
    due_ms = first_due_ms(schedule, now_ms)
    retry = read_retry(message, field, due_ms, violations)
    repeat = read_repeat(message, field, due_ms, violations)
    timeout_ms = DEFAULT_ATTEMPT_TIMEOUT_MS
    if message.HasField("attempt_timeout"):
        timeout_ms = read_duration(
            message.attempt_timeout, f"{field}.attempt_timeout", ATTEMPT_TIMEOUT, violations
        )
    labels = _read_labels(message.labels, f"{field}.labels", violations)
    return TaskSpec(task_id, target, queue or DEFAULT_QUEUE, schedule, retry, repeat, timeout_ms, labels)


def _read_target(
    message: task_pb2.HttpTarget, field: str, limits: Limits, violations: Violations
) -> HttpTarget:
    url = message.url
    fault = url_fault(url, limits.max_url_length, limits.targets)
    if fault is not None:
        # What is no URL at all is not told from what may not be sent to any more.
        violations.add_passing(f"{field}.url", fault)
    method = HTTP_METHODS.read(message.http_method, HttpMethod.POST, f"{field}.http_method", violations)
    # Entries of maps are counted before they are copied: they may be as many as fit into a message.
    headers: dict[str, str] = {}
    if _few_enough(message.headers, MAX_HEADERS, f"{field}.headers", violations):
        headers = dict(message.headers)
        if headers:
            check_headers(headers, f"{field}.headers", limits.max_header_bytes, violations)
    query_params: dict[str, str] = {}
    if _few_enough(message.query_params, limits.max_url_length // 2, f"{field}.query_params", violations):
        query_params = dict(message.query_params)
        if query_params and fault is None:
            _check_query(url, query_params, f"{field}.query_params", limits.max_url_length, violations)
    body = message.body
    if body:
        _check_body(body, method, f"{field}.body", limits.max_body_bytes, violations)
    return HttpTarget(url, method, headers, query_params, body, message.follow_redirects)


def _few_enough(entries: Sized, most: int, field: str, violations: Violations) -> bool:
    count = len(entries)
    if count > most:
        violations.add(field, f"are {count:,}; at most {most:,} are allowed")
    return count <= most


def _check_query(
    url: str, params: Mapping[str, str], field: str, max_length: int, violations: Violations
) -> None:
    length = len(url) + 1 + len(urlencode(params, quote_via=quote))
    if length > max_length:
        violations.add_passing(
            field, f"make the URL {length:,} characters long, encoded; at most {max_length:,} are allowed"
        )


def _check_body(body: bytes, method: HttpMethod, field: str, max_bytes: int, violations: Violations) -> None:
    if method in BODILESS_METHODS:
        violations.add(
            field,
            f"has {len(body):,} bytes, and a {method} request has none; "
            "leave it empty, or use POST, PUT or PATCH",
        )
    if len(body) > max_bytes:
        violations.add_passing(field, f"has {len(body):,} bytes; at most {max_bytes:,} are allowed")


def _read_labels(message: Mapping[str, str], field: str, violations: Violations) -> dict[str, str]:
    if not _few_enough(message, MAX_LABELS, field, violations):
        return {}
    labels = dict(message)
    for key, value in labels.items():
        check_label_key(key, field, violations)
        if len(value) > MAX_LABEL_VALUE_LENGTH:
            violations.add(
                entry(field, key),
                f"has {len(value):,} characters; at most {MAX_LABEL_VALUE_LENGTH} are allowed",
            )
    return labels
