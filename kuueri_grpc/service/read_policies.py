"""Reads when a task is due, and when again: schedule, retry policy, repeat policy."""

from collections.abc import Sequence

from kuueri_grpc.domain.task import Backoff, Growth, RepeatPolicy, RetryPolicy, Schedule
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.service.enums import GROWTHS
from kuueri_grpc.service.times import DAY_MS, TEN_YEARS_MS, Span, read_duration, read_timestamp, spoken
from kuueri_grpc.service.violations import Violations

MAX_RETRIES = 1_000
MAX_REPEATS = 1_000_000
MAX_STATUS_CODES = 500
DELAY = Span(0, TEN_YEARS_MS, "0 to 10 years")
START_DEADLINE = Span(1, TEN_YEARS_MS, "1 ms to 10 years")
WAIT = Span(1, 365 * DAY_MS, "1 ms to 365 days")
MAX_DURATION = Span(0, 365 * DAY_MS, "0 to 365 days")

_AT_ONCE = Schedule()
_NO_RETRY = RetryPolicy()
_NO_REPEAT = RepeatPolicy()
_DEFAULT_BACKOFF = Backoff()


def read_schedule(message: task_pb2.Task, field: str, now_ms: int, violations: Violations) -> Schedule:
    """Return when the task is due first. `field` is the path of the task, here and below."""
    if not message.HasField("schedule"):
        return _AT_ONCE
    schedule, field = message.schedule, f"{field}.schedule"
    at_ms = delay_ms = deadline_ms = None
    start = schedule.WhichOneof("start")
    if start == "at":
        at_ms = read_timestamp(schedule.at, f"{field}.at", violations)
        if at_ms is not None and at_ms > now_ms + TEN_YEARS_MS:
            violations.add_passing(f"{field}.at", f"is {spoken(at_ms)}; expected at most 10 years from now")
    elif start == "delay":
        delay_ms = read_duration(schedule.delay, f"{field}.delay", DELAY, violations)
    if schedule.HasField("start_deadline"):
        path = f"{field}.start_deadline"
        deadline_ms = read_duration(schedule.start_deadline, path, START_DEADLINE, violations)
        over_ms = None if at_ms is None or deadline_ms == 0 else at_ms + deadline_ms
        if over_ms is not None and over_ms < now_ms:
            violations.add_passing(
                path,
                f"was over at {spoken(over_ms)}, {now_ms - over_ms:,} ms ago; "
                "expected a longer one, or a later at",
            )
    return Schedule(at_ms, delay_ms, deadline_ms)


def first_due_ms(schedule: Schedule, now_ms: int) -> int:
    """Return the instant at which a task subscribed now is due first."""
    return schedule.at_ms if schedule.at_ms is not None else now_ms + (schedule.delay_ms or 0)


def read_retry(message: task_pb2.Task, field: str, due_ms: int, violations: Violations) -> RetryPolicy:
    """Return what to do after an error answer of a task that is due first at `due_ms`."""
    if not message.HasField("retry_policy"):
        return _NO_RETRY
    policy, field = message.retry_policy, f"{field}.retry_policy"
    count = _read_count(policy.max_retries, f"{field}.max_retries", MAX_RETRIES, violations)
    backoff, at_ms, max_duration_ms = _DEFAULT_BACKOFF, None, None
    wait = policy.WhichOneof("wait")
    if wait == "backoff":
        backoff = _read_backoff(policy.backoff, f"{field}.backoff", violations)
    elif wait == "retry_at":
        at_ms = read_timestamp(policy.retry_at, f"{field}.retry_at", violations)
        _check_single(at_ms, due_ms, f"{field}.retry_at", count, f"{field}.max_retries", violations)
        count = 1
    if policy.HasField("max_duration"):
        # 0 is the same as unset: no limit.
        max_duration_ms = (
            read_duration(policy.max_duration, f"{field}.max_duration", MAX_DURATION, violations) or None
        )
    codes = _read_status_codes(policy.retryable_status_codes, f"{field}.retryable_status_codes", violations)
    return RetryPolicy(count, backoff, at_ms, max_duration_ms, codes)


def read_repeat(message: task_pb2.Task, field: str, due_ms: int, violations: Violations) -> RepeatPolicy:
    """Return what to do after a success answer of a task that is due first at `due_ms`."""
    if not message.HasField("repeat_policy"):
        return _NO_REPEAT
    policy, field = message.repeat_policy, f"{field}.repeat_policy"
    count = _read_count(policy.max_repeats, f"{field}.max_repeats", MAX_REPEATS, violations)
    backoff, at_ms = _DEFAULT_BACKOFF, None
    wait = policy.WhichOneof("wait")
    if wait == "backoff":
        backoff = _read_backoff(policy.backoff, f"{field}.backoff", violations)
    elif wait == "repeat_at":
        at_ms = read_timestamp(policy.repeat_at, f"{field}.repeat_at", violations)
        _check_single(at_ms, due_ms, f"{field}.repeat_at", count, f"{field}.max_repeats", violations)
        count = 1
    return RepeatPolicy(count, backoff, at_ms)


def _read_count(count: int, field: str, maximum: int, violations: Violations) -> int:
    if not 0 <= count <= maximum:
        violations.add(field, f"is {count:,}; expected 0 to {maximum:,}")
    return count


def _check_single(
    at_ms: int | None, due_ms: int, field: str, count: int, count_field: str, violations: Violations
) -> None:
    """Note faults of the policies that act once, at an instant."""
    if at_ms is not None and at_ms <= due_ms:
        violations.add_passing(
            field, f"is {spoken(at_ms)}; expected later than the first due time {spoken(due_ms)}"
        )
    if at_ms is not None and at_ms > due_ms + TEN_YEARS_MS:
        violations.add_passing(
            field, f"is {spoken(at_ms)}; expected at most 10 years after the first due time"
        )
    if count > 1:
        name = field.rpartition(".")[2]
        violations.add(count_field, f"is {count:,}; expected 1, or unset, together with {name}")


def _read_backoff(message: task_pb2.Backoff, field: str, violations: Violations) -> Backoff:
    interval_ms, max_interval_ms = _DEFAULT_BACKOFF.interval_ms, None
    if message.HasField("interval"):
        interval_ms = read_duration(message.interval, f"{field}.interval", WAIT, violations)
    if message.HasField("max_interval"):
        max_interval_ms = read_duration(message.max_interval, f"{field}.max_interval", WAIT, violations)
    growth = GROWTHS.read(message.growth, Growth.CONSTANT, f"{field}.growth", violations)
    jitter = message.jitter
    if not 0 <= jitter <= 1:  # NaN too
        violations.add(f"{field}.jitter", f"is {jitter:g}; expected 0 to 1")
    return Backoff(interval_ms, growth, max_interval_ms, jitter)


def _read_status_codes(codes: Sequence[int], field: str, violations: Violations) -> tuple[int, ...]:
    # Counted before they are looked at: they may be as many as fit into a message.
    if len(codes) > MAX_STATUS_CODES:
        violations.add(field, f"are {len(codes):,}; at most {MAX_STATUS_CODES} are allowed")
        return ()
    for i, code in enumerate(codes):
        if not 100 <= code <= 599:
            violations.add(f"{field}[{i}]", f"is {code}; expected 100 to 599")
        elif 200 <= code <= 299:
            violations.add(f"{field}[{i}]", f"is {code}, a success answer; expected none of 200 to 299")
    return tuple(dict.fromkeys(codes))
