"""What `kuueri subscribe` was asked for, as a SubscribeRequest.

What the messages cannot hold together (two alternatives of a oneof) or would ignore (waits of a policy
without a count) is refused here, because the server would never see it. All else the server judges.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.instants import At, FromNow, When
from kuueri_grpc.cli.options import parse_pair
from kuueri_grpc.domain.task import Growth, HttpMethod
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.task_service_pb2 import SubscribeRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """The request to make; headers and parameters are as they were typed."""

    url: str = field(repr=False)
    method: HttpMethod | None = None
    headers: tuple[str, ...] = field(default=(), repr=False)
    query: tuple[str, ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    follow_redirects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """When to make it."""

    delay_ms: int | None = None
    at: When | None = None
    start_deadline_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """Retries, or repetitions; `flag` (`retry`, `repeat`) is what the options are named after."""

    flag: Literal["retry", "repeat"]
    count: int | None = None
    interval_ms: int | None = None
    growth: Growth | None = None
    max_interval_ms: int | None = None
    jitter: float | None = None
    at: When | None = None
    max_duration_ms: int | None = None
    status_codes: tuple[int, ...] = ()

    def backoff_flags(self) -> list[str]:
        """The options of the backoff that were given."""
        values = {
            "interval": self.interval_ms,
            "growth": self.growth,
            "max-interval": self.max_interval_ms,
            "jitter": self.jitter,
        }
        return [f"--{self.flag}-{name}" for name, value in values.items() if value is not None]

    def check(self) -> None:
        """Refuse options that exclude each other or would be ignored.

        Raises:
            ValueError: Names them.
        """
        backoff = self.backoff_flags()
        if self.at is not None and backoff:
            raise ValueError(f"--{self.flag}-at does not go with {backoff[0]}")
        if self.count is not None or self.at is not None:
            return
        without_count = [
            *backoff,
            *(["--retry-max-duration"] if self.max_duration_ms is not None else []),
            *(["--retryable-status"] if self.status_codes else []),
        ]
        count_flag = "--max-retries" if self.flag == "retry" else "--max-repeats"
        if without_count:
            raise ValueError(f"{without_count[0]} needs {count_flag} or --{self.flag}-at")

    def is_given(self) -> bool:
        """Whether there is a policy at all, once `check` has passed."""
        return self.count is not None or self.at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeOptions:
    """All of it."""

    target: TargetOptions
    schedule: ScheduleOptions
    retry: PolicyOptions
    repeat: PolicyOptions
    attempt_timeout_ms: int | None = None
    queue: str = ""
    labels: tuple[str, ...] = ()
    task_id: str = ""
    request_id: str = ""


def build_request(options: SubscribeOptions) -> SubscribeRequest:
    """Return the request.

    Raises:
        ValueError: An option is not of its form, or does not go with another; the text names it.
    """
    for policy in (options.retry, options.repeat):
        policy.check()
    task = task_pb2.Task(
        task_id=options.task_id,
        queue=options.queue,
        http_target=_target(options.target),
        schedule=_schedule(options.schedule),
        retry_policy=_retry_policy(options.retry),
        repeat_policy=_repeat_policy(options.repeat),
        attempt_timeout=_duration(options.attempt_timeout_ms),
        labels=_unique("--label", map(parse_pair, options.labels)),
    )
    return SubscribeRequest(task=task, request_id=options.request_id)


def parse_header(text: str) -> tuple[str, str]:
    """Split `Name: value` or `name=value`; the value loses the blanks around it.

    Raises:
        ValueError: there is neither sign, or no name before it.
    """
    signs = [index for index in (text.find(":"), text.find("=")) if index >= 0]
    name = text[: min(signs, default=0)].strip()
    if not name:
        raise ValueError(f"{text!r} is not a header; expected 'Name: value' or name=value")
    return name, text[min(signs) + 1 :].strip()


def _unique(flag: str, pairs: Iterable[tuple[str, str]], *, fold_case: bool = False) -> dict[str, str]:
    """The pairs as a map, unless a name is there twice: the message would keep one of them."""
    unique: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in pairs:
        key = name.lower() if fold_case else name
        if key in seen:
            raise ValueError(f"{flag} {name} is given twice")
        seen.add(key)
        unique[name] = value
    return unique


def _target(options: TargetOptions) -> task_pb2.HttpTarget:
    return task_pb2.HttpTarget(
        url=options.url,
        http_method=task_pb2.HttpMethod.Value(f"HTTP_METHOD_{options.method or 'UNSPECIFIED'}"),
        headers=_unique("--header", map(parse_header, options.headers), fold_case=True),
        query_params=_unique("--query", map(parse_pair, options.query)),
        body=options.body,
        follow_redirects=options.follow_redirects,
    )


def _schedule(options: ScheduleOptions) -> task_pb2.Schedule | None:
    if options.at is not None and options.delay_ms is not None:
        raise ValueError("--at does not go with --delay")
    if options == ScheduleOptions():
        return None
    schedule = task_pb2.Schedule(start_deadline=_duration(options.start_deadline_ms))
    match options.at:
        case At(at_ms):
            schedule.at.FromMilliseconds(at_ms)
        case FromNow(in_ms):
            # Sent as a wait, so that the server's clock counts and not this machine's.
            schedule.delay.FromMilliseconds(in_ms)
        case None if options.delay_ms is not None:
            schedule.delay.FromMilliseconds(options.delay_ms)
    return schedule


def _retry_policy(options: PolicyOptions) -> task_pb2.RetryPolicy | None:
    if not options.is_given():
        return None
    return task_pb2.RetryPolicy(
        max_retries=options.count or 0,
        backoff=_backoff(options),
        retry_at=_instant(options),
        max_duration=_duration(options.max_duration_ms),
        retryable_status_codes=options.status_codes,
    )


def _repeat_policy(options: PolicyOptions) -> task_pb2.RepeatPolicy | None:
    if not options.is_given():
        return None
    return task_pb2.RepeatPolicy(
        max_repeats=options.count or 0, backoff=_backoff(options), repeat_at=_instant(options)
    )


def _backoff(options: PolicyOptions) -> task_pb2.Backoff | None:
    if not options.backoff_flags():
        return None
    return task_pb2.Backoff(
        interval=_duration(options.interval_ms),
        growth=task_pb2.Growth.Value(f"GROWTH_{options.growth or 'UNSPECIFIED'}"),
        max_interval=_duration(options.max_interval_ms),
        jitter=options.jitter or 0,
    )


def _duration(duration_ms: int | None) -> Duration | None:
    if duration_ms is None:
        return None
    duration = Duration()
    duration.FromMilliseconds(duration_ms)
    return duration


def _instant(options: PolicyOptions) -> Timestamp | None:
    instant = Timestamp()
    match options.at:
        case At(at_ms):
            instant.FromMilliseconds(at_ms)
        case FromNow(in_ms):
            try:
                instant.FromMilliseconds(time.time_ns() // 1_000_000 + in_ms)
            except ValueError:
                wait = format_duration_ms(in_ms)
                raise ValueError(f"--{options.flag}-at +{wait} is after the year 9999") from None
        case _:
            return None
    return instant
