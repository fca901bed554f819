"""Domain objects to and from what the store keeps.

The parts that a task's owner chose are MessagePack arrays that begin with a format version, so that a
later version can read what an earlier one wrote; events are JSON objects with one-letter names, so
that a timeline can be read with any Redis client:

    n sequence   t create_time_ms   e type   a attempt   s status_code   l latency_ms
    r reason     x next_time_ms     d detail

The first event of a task is not kept as one while nothing else is to be told: `seq` of the record is 0 then,
its `create` and `due` are what it says. In a feed, the due time alone stands for it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgpack

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import (
    DEFAULT_ATTEMPT_TIMEOUT_MS,
    Attempt,
    Backoff,
    Growth,
    HttpMethod,
    HttpTarget,
    RepeatPolicy,
    RetryPolicy,
    Schedule,
    Task,
    TaskSpec,
)
from kuueri_grpc.domain.timeline import EventType, Reason, TimelineEvent
from kuueri_grpc.ports import FeedEvent

FORMAT = 1
#: Parts that are as they are where nothing was asked for are None in it, and left out at its end.
POLICY_FORMAT = 2
_POLICY_FORMATS = (FORMAT, POLICY_FORMAT)
_POLICY_PARTS = 4

#: A hash as a script returns it: field, value, field, value ...
Flat = Sequence[bytes]

#: Reads the request that is kept of a task: (project id, task id, what is kept).
ReadRequest = Callable[[str, str, bytes], HttpTarget]


class CorruptRecord(Exception):
    """A record that cannot be read."""


class ForeignRecord(CorruptRecord):
    """A record that is of another version: an instance of that version can read it."""


class KeyElsewhere(CorruptRecord):
    """A record under a key that is not here: an instance that has it can read it."""

    def __init__(self, message: str, key_id: str) -> None:
        super().__init__(message)
        self.key_id = key_id


def pack_request(target: HttpTarget) -> bytes:
    """Return the request part of a task: what is sent, and what is kept sealed, see `vault`."""
    return _pack(
        (
            FORMAT,
            target.url,
            target.method.value,
            dict(target.headers),
            dict(target.query_params),
            target.body,
            target.follow_redirects,
        )
    )


def unpack_request(blob: bytes) -> HttpTarget:
    """Return what `pack_request` was given. Raises `CorruptRecord`."""
    _, fields = _unpack(blob, "request", (FORMAT,))
    match fields:
        case [str(url), str(method), dict(headers), dict(query), bytes(body), bool(follow)] if (
            method in _METHODS
        ):
            return HttpTarget(url, HttpMethod(method), headers, query, body, follow)
        case _:
            raise CorruptRecord("a task's request has other fields than a request")


def pack_policy(spec: TaskSpec) -> bytes:
    """Return the policy part of a task: all that its owner chose besides the request and labels."""
    parts = [
        None if spec.attempt_timeout_ms == DEFAULT_ATTEMPT_TIMEOUT_MS else spec.attempt_timeout_ms,
        _pack_schedule(spec.schedule),
        None if spec.retry == _DEFAULT_RETRY else _pack_retry(spec.retry),
        None if spec.repeat == _DEFAULT_REPEAT else _pack_repeat(spec.repeat),
    ]
    while parts and parts[-1] is None:
        parts.pop()
    return _pack((POLICY_FORMAT, *parts))


def unpack_policy(blob: bytes | None) -> tuple[int, Schedule, RetryPolicy, RepeatPolicy]:
    """Return attempt timeout (ms), schedule, retry and repeat policy. Raises `CorruptRecord`."""
    version, fields = _unpack(blob, "policy", _POLICY_FORMATS)
    if version == POLICY_FORMAT:
        fields += [None] * (_POLICY_PARTS - len(fields))
    match fields:
        case [int() | None as timeout_ms, schedule, retry, repeat]:
            return (
                DEFAULT_ATTEMPT_TIMEOUT_MS if timeout_ms is None else timeout_ms,
                _unpack_schedule(schedule),
                _DEFAULT_RETRY if retry is None else _unpack_retry(retry),
                _DEFAULT_REPEAT if repeat is None else _unpack_repeat(repeat),
            )
        case _:
            raise CorruptRecord(_NO_POLICY)


_DEFAULT_BACKOFF, _DEFAULT_RETRY, _DEFAULT_REPEAT = Backoff(), RetryPolicy(), RepeatPolicy()
_METHODS, _GROWTHS = frozenset(HttpMethod), frozenset(Growth)
_NO_POLICY = "a task's policy has other fields than a policy"


def _pack_schedule(schedule: Schedule) -> object:
    if schedule.delay_ms is None and schedule.start_deadline_ms is None:
        return schedule.at_ms
    return (schedule.at_ms, schedule.delay_ms, schedule.start_deadline_ms)


def _pack_retry(retry: RetryPolicy) -> object:
    return (
        retry.max_retries,
        _pack_backoff(retry.backoff),
        retry.retry_at_ms,
        retry.max_duration_ms,
        retry.retryable_status_codes,
    )


def _pack_repeat(repeat: RepeatPolicy) -> object:
    return (repeat.max_repeats, _pack_backoff(repeat.backoff), repeat.repeat_at_ms)


def _pack_backoff(backoff: Backoff) -> tuple[object, ...] | None:
    # Most tasks keep the default: one byte instead of twenty.
    if backoff == _DEFAULT_BACKOFF:
        return None
    return (backoff.interval_ms, backoff.growth.value, backoff.max_interval_ms, backoff.jitter)


def _unpack_schedule(packed: object) -> Schedule:
    match packed:
        case int() | None:
            return Schedule(packed)
        case [int() | None, int() | None, int() | None]:
            return Schedule(*packed)
        case _:
            raise CorruptRecord(_NO_POLICY)


def _unpack_retry(packed: Any) -> RetryPolicy:
    match packed:
        case [int(retries), backoff, int() | None as retry_at, int() | None as duration, [*codes]]:
            return RetryPolicy(retries, _unpack_backoff(backoff), retry_at, duration, tuple(codes))
        case _:
            raise CorruptRecord(_NO_POLICY)


def _unpack_repeat(packed: object) -> RepeatPolicy:
    match packed:
        case [int(repeats), backoff, int() | None as repeat_at]:
            return RepeatPolicy(repeats, _unpack_backoff(backoff), repeat_at)
        case _:
            raise CorruptRecord(_NO_POLICY)


def _unpack_backoff(packed: object) -> Backoff:
    match packed:
        case None:
            return _DEFAULT_BACKOFF
        case [int(interval), str(growth), int() | None as most, int() | float() as jitter] if (
            growth in _GROWTHS
        ):
            return Backoff(interval, Growth(growth), most, jitter)
        case _:
            raise CorruptRecord(_NO_POLICY)


def _pack(values: tuple[object, ...]) -> bytes:
    packed: bytes = msgpack.packb(values)
    return packed


def _unpack(blob: bytes | None, part: str, formats: Sequence[int]) -> tuple[int, list[Any]]:
    if blob is None:
        raise CorruptRecord(f"a task's {part} is missing")
    try:
        values: Any = msgpack.unpackb(blob)
    except (ValueError, TypeError) as error:  # TypeError: a list as the key of a map
        raise CorruptRecord(f"a task's {part} is not MessagePack: {error}") from error
    match values:
        case [int(version), *fields] if version in formats:
            return version, fields
        case [int(version), *_]:
            raise ForeignRecord(f"a task's {part} has format {version}; this version reads {formats[-1]}")
        case _:
            raise CorruptRecord(f"a task's {part} is not a record: {type(values).__name__}")


def pack_labels(labels: Mapping[str, str]) -> str:
    """Return labels as the JSON object that `lua/list.lua` reads; empty for none."""
    return json.dumps(dict(labels), separators=(",", ":"), sort_keys=True) if labels else ""


def pack_pairs(labels: Mapping[str, str]) -> str:
    """Return labels to look for as the flat JSON array that `lua/list.lua` reads."""
    return json.dumps([text for pair in labels.items() for text in pair])


def task(project_id: str, task_id: str, hashes: Sequence[Flat], read_request: ReadRequest) -> Task:
    """Return the task of a snapshot (see `lua/prelude.lua`). Raises `CorruptRecord`."""
    kept, config = _fields(hashes[0]), _fields(hashes[1])
    try:
        return _task(project_id, task_id, kept, config, read_request)
    except KeyError as error:
        raise CorruptRecord(f"it has no field {error}") from None
    except ValueError:
        # Not shown: what is in a field may be anything.
        raise CorruptRecord("a field of it has a value that this version does not know") from None


def _task(
    project_id: str,
    task_id: str,
    kept: Mapping[str, bytes],
    config: Mapping[str, bytes],
    read_request: ReadRequest,
) -> Task:
    timeout_ms, schedule, retry, repeat = unpack_policy(config["policy"])
    spec = TaskSpec(
        task_id=task_id,
        target=read_request(project_id, task_id, config["request"]),
        queue=kept["queue"].decode(),
        schedule=schedule,
        retry=retry,
        repeat=repeat,
        attempt_timeout_ms=timeout_ms,
        labels=json.loads(config["labels"]) if "labels" in config else {},
    )
    return Task(
        project_id=project_id,
        spec=spec,
        state=TaskState(kept["state"].decode()),
        create_time_ms=int(kept["create"]),
        schedule_time_ms=int(kept["due"]) if "due" in kept else None,
        end_time_ms=int(kept["end"]) if "end" in kept else None,
        attempt_count=int(kept.get("attempt", 0)),
        retry_count=int(kept.get("retry", 0)),
        repeat_count=int(kept.get("repeat", 0)),
        last_attempt=_last_attempt(kept),
        # 0: its first event is not on its timeline yet, see `unfold` in `lua/lib_task.lua`.
        sequence=int(kept["seq"]) or 1,
    )


def _fields(flat: Flat) -> dict[str, bytes]:
    # A field that a script emptied is absent, see `lua/prelude.lua`.
    pairs = iter(flat)
    return {name.decode(): value for name, value in zip(pairs, pairs, strict=True) if value}


def _last_attempt(kept: Mapping[str, bytes]) -> Attempt | None:
    if "last" not in kept:
        return None
    status, reason = kept.get("last_status"), kept.get("last_reason", b"").decode()
    return Attempt(
        attempt=int(kept["last"]),
        dispatch_time_ms=int(kept["last_at"]),
        latency_ms=int(kept["last_ms"]),
        status_code=int(status) if status else None,
        reason=Reason(reason) if reason else None,
    )


def event(task_id: str, line: bytes) -> TimelineEvent:
    """Return the event of one timeline entry."""
    kept = json.loads(line)
    reason = kept.get("r")
    return TimelineEvent(
        task_id=task_id,
        sequence=kept["n"],
        create_time_ms=kept["t"],
        type=EventType(kept["e"]),
        attempt=kept.get("a", 0),
        status_code=kept.get("s"),
        latency_ms=kept.get("l"),
        reason=Reason(reason) if reason else None,
        # Lua's JSON writes what has more than 14 digits as a float.
        next_time_ms=int(kept["x"]) if "x" in kept else None,
        detail=kept.get("d", ""),
    )


def feed_entry(last_number: int, flat: Flat) -> list[FeedEvent]:
    """Return the events of one entry of a project's feed, whose last has the number `last_number`."""
    pairs = iter(flat)
    number = last_number - len(flat) // 2
    events = []
    for place, line in zip(pairs, pairs, strict=True):
        number += 1
        queue, _, task_id = place.decode().partition("/")
        events.append(FeedEvent(number, queue, event(task_id, line)))
    return events


def pack_signing(secrets: Sequence[tuple[str, int | None]]) -> str:
    """Return sealed signing secrets with their expiry (ms or None), newest first, as they are kept."""
    return json.dumps([{"s": secret, "x": expiry} for secret, expiry in secrets], separators=(",", ":"))


def unpack_signing(text: bytes) -> list[tuple[str, int | None]]:
    """Return what `pack_signing` was given. Raises `CorruptRecord`."""
    try:
        return [(kept["s"], kept["x"]) for kept in json.loads(text)]
    except (ValueError, KeyError, TypeError):
        # Not chained: the exception holds the text.
        raise CorruptRecord("the list of signing secrets is not one") from None
