"""Tasks for people: as one line, as a row of a list, with everything about them."""

import time
from collections.abc import Iterator, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.instants import format_local, format_relative
from kuueri_grpc.cli.names import growth_name, method_name, reason_name, state_name
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.pb.task_pb2 import Attempt, Backoff, HttpTarget, RepeatPolicy, RetryPolicy, Task

_STYLES = {
    "SCHEDULED": "cyan",
    "DISPATCHING": "blue",
    "RETRYING": "yellow",
    "REPEATING": "cyan",
    "PAUSED": "magenta",
    "COMPLETED": "green",
    "CANCELED": "magenta",
    "FAILED": "red",
    "EXPIRED": "red",
}


def task_line(task: Task) -> Text:
    """Return `ID  STATE  POST https://...  due in 5s`."""
    parts = [Text(printable(task.task_id), style="bold"), state_text(task), Text(_request(task))]
    if task.HasField("schedule_time"):
        parts.append(Text(f"due {_relative(task.schedule_time)}"))
    return Text("  ").join(parts)


def state_text(task: Task) -> Text:
    """Return the state in its colour."""
    name = state_name(task.state)
    return Text(name, style=_STYLES.get(name, ""))


def print_tasks(console: Console, tasks: Sequence[Task]) -> None:
    """Print a list of tasks, a row each."""
    rows = [
        (
            Text(printable(task.task_id)),
            state_text(task),
            Text(_relative(task.schedule_time) if task.HasField("schedule_time") else ""),
            Text(str(task.attempt_count)),
            Text(printable(task.queue)),
            Text(_relative(task.create_time)),
            Text(_request(task)),
        )
        for task in tasks
    ]
    columns = [
        Column(title, max(len(title), *(row[place].cell_len for row in rows)), right=title == "ATTEMPTS")
        for place, title in enumerate(("TASK ID", "STATE", "DUE", "ATTEMPTS", "QUEUE", "CREATED", "REQUEST"))
    ]
    printer = RowPrinter(console, columns)
    for row in rows:
        printer.row(*row)


def task_details(task: Task) -> Iterator[tuple[str, str | Text]]:
    """Yield names and values of everything about a task; what is not set is left out."""
    yield "task id", Text(printable(task.task_id), style="bold")
    yield "state", state_text(task)
    yield "queue", task.queue
    yield "request", _request(task)
    yield from _target_details(task.http_target)
    if task.schedule.HasField("start_deadline"):
        yield "start", f"within {_duration(task.schedule.start_deadline)} of the due time"
    if task.HasField("retry_policy"):
        yield "retry", _retry(task.retry_policy)
    if task.HasField("repeat_policy"):
        yield "repeat", _repeat(task.repeat_policy)
    if task.HasField("attempt_timeout"):
        yield "timeout", f"{_duration(task.attempt_timeout)} an attempt"
    yield from (("label", f"{name}={value}") for name, value in sorted(task.labels.items()))
    yield "created", _instant(task.create_time)
    if task.HasField("schedule_time"):
        yield "due", _instant(task.schedule_time)
    if task.HasField("end_time"):
        yield "ended", _instant(task.end_time)
    yield "attempts", str(task.attempt_count)
    yield "retries", f"{task.retry_count} in this run"
    yield "repetitions", str(task.repeat_count)
    if task.HasField("last_attempt"):
        yield "last attempt", _attempt(task.last_attempt)


def _target_details(target: HttpTarget) -> Iterator[tuple[str, str | Text]]:
    yield from (("header", f"{name}: {value}") for name, value in sorted(target.headers.items()))
    yield from (("header", name) for name in sorted(target.header_names))
    yield from (("query", f"{name}={value}") for name, value in sorted(target.query_params.items()))
    yield from (("query", name) for name in sorted(target.query_param_names))
    # An earlier server does not say the size, and leaves no body out.
    if body_size := target.body_size or len(target.body):
        yield "body", f"{body_size:,} bytes"
    if text := _body_text(target.body):
        yield "", text
    if target.follow_redirects:
        yield "redirects", "followed"


def _request(task: Task) -> str:
    target = task.http_target
    hidden = "?..." if target.url_query_hidden else ""
    return printable(f"{method_name(target.http_method)} {target.url}{hidden}")


def _body_text(body: bytes) -> str:
    """Return a body as text, its control characters spelt out; one that is no text: empty."""
    try:
        return printable(body.decode())
    except UnicodeDecodeError:
        return ""


def _attempt(attempt: Attempt) -> str:
    outcome = (
        f"status {attempt.status_code}" if attempt.HasField("status_code") else reason_name(attempt.reason)
    )
    started = format_local(attempt.dispatch_time.ToMilliseconds())
    return f"number {attempt.attempt}, {outcome}, {_duration(attempt.latency)}, started {started}"


def _retry(policy: RetryPolicy) -> str:
    text = f"up to {policy.max_retries} a run, "
    if policy.HasField("retry_at"):
        text = f"once, at {format_local(policy.retry_at.ToMilliseconds())}"
    else:
        text += _backoff(policy.backoff)
    if policy.HasField("max_duration"):
        text += f", within {_duration(policy.max_duration)}"
    if policy.retryable_status_codes:
        text += f", on status {', '.join(map(str, policy.retryable_status_codes))}"
    return text


def _repeat(policy: RepeatPolicy) -> str:
    if policy.HasField("repeat_at"):
        return f"once, at {format_local(policy.repeat_at.ToMilliseconds())}"
    return f"up to {policy.max_repeats}, {_backoff(policy.backoff)}"


def _backoff(backoff: Backoff) -> str:
    interval = _duration(backoff.interval) if backoff.HasField("interval") else "1s"
    growth = growth_name(backoff.growth)
    text = f"every {interval}" if growth == "CONSTANT" else f"{growth.lower()} from {interval}"
    if backoff.HasField("max_interval"):
        text += f", at most {_duration(backoff.max_interval)}"
    if backoff.jitter:
        text += f", jitter {backoff.jitter:g}"
    return text


def _duration(duration: Duration) -> str:
    return format_duration_ms(duration.ToMilliseconds())


def _instant(instant: Timestamp) -> str:
    return f"{format_local(instant.ToMilliseconds())} ({_relative(instant)})"


def _relative(instant: Timestamp) -> str:
    return format_relative(instant.ToMilliseconds(), time.time_ns() // 1_000_000)
