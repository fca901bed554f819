"""Tables and lines for people."""

import io
import json
import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.text import Text

from kuueri_grpc.cli.names import event_name, growth_name, method_name, reason_name, state_name
from kuueri_grpc.cli.output import Output, make_console, to_json
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.cli.task_view import print_tasks, task_details, task_line
from kuueri_grpc.cli.timeline_view import TimelineView
from kuueri_grpc.cli.watch import show
from kuueri_grpc.pb.task_pb2 import Growth, HttpMethod, Task, TaskState
from kuueri_grpc.pb.task_service_pb2 import WatchResponse
from kuueri_grpc.pb.timeline_pb2 import EventType, Reason, TimelineEvent, TimelineGap

NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@pytest.fixture(autouse=True)
def at_new_year(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("time.time_ns", lambda: NEW_YEAR_MS * 1_000_000)
    yield
    monkeypatch.undo()
    time.tzset()


def plain() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=10_000, highlight=False, markup=False, emoji=False), written


def terminal(width: int) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None, highlight=False)
    return console, written


# --- rows -------------------------------------------------------------------------------------

COLUMNS = (Column("A", 4), Column("B", 3, right=True), Column("TEXT", 10))


def test_rows_line_up_under_one_heading() -> None:
    console, written = plain()
    rows = RowPrinter(console, COLUMNS)
    assert written.getvalue() == ""
    rows.row("a", "1", "first")
    rows.row("abcd", Text("22"), "")
    assert written.getvalue().splitlines() == ["A       B  TEXT", "a       1  first", "abcd   22"]


def test_a_value_that_is_too_wide_is_not_cut() -> None:
    console, written = plain()
    RowPrinter(console, COLUMNS).row("abcdefgh", "1", "text")
    assert written.getvalue().splitlines()[1] == "abcdefgh    1  text"


def test_on_a_terminal_the_last_column_folds_within_itself() -> None:
    console, written = terminal(35)
    RowPrinter(console, COLUMNS).row("a", "1", "as many words as it takes to fold")
    assert written.getvalue().splitlines()[1:] == [
        "a       1  as many words as it",
        "           takes to fold",
    ]


def test_a_terminal_that_is_too_narrow_folds_as_it_does() -> None:
    console, written = terminal(20)
    RowPrinter(console, COLUMNS).row("a", "1", "as many words as it takes to fold")
    assert written.getvalue().splitlines()[1] == "a       1  as many words as it takes to fold"


# --- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, ünïcode 漢字", "plain, ünïcode 漢字"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_control_characters_are_spelt_out(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_a_task_cannot_steer_a_terminal() -> None:
    task = Task(task_id="t\x1b[2J", queue="\x1b[2J")
    task.http_target.url = "https://example.com/\x1b[2J"
    task.http_target.headers["x\x1b"] = "\x1b[2J"
    task.labels["a"] = "\x1b[2J"
    console, written = plain()
    output = Output(as_json=False)
    output.console = console
    output.line(task_line(task))
    output.pairs(*task_details(task))
    print_tasks(console, [task])
    TimelineView(console).show(TimelineEvent(description="\x1b[2J"))
    assert "\x1b" not in written.getvalue()


def test_json_is_proto_json_with_every_field_under_its_own_name() -> None:
    line = to_json(TimelineEvent(sequence=7, type=EventType.EVENT_TYPE_PAUSED, description="ünï"))
    assert "ünï" in line
    assert "\n" not in line
    assert json.loads(line) == {
        "sequence": "7",
        "task_id": "",
        "type": "EVENT_TYPE_PAUSED",
        "description": "ünï",
        "attempt": 0,
        "reason": "REASON_UNSPECIFIED",
    }


def test_no_colour_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    console = make_console()
    console.print(Text("x" * 500, style="bold red"))
    assert capsys.readouterr().out == "x" * 500 + "\n"


def test_enum_values_without_prefix_and_new_ones_as_numbers() -> None:
    assert state_name(TaskState.TASK_STATE_FAILED) == "FAILED"
    assert method_name(HttpMethod.HTTP_METHOD_UNSPECIFIED) == "POST"
    assert method_name(HttpMethod.HTTP_METHOD_PUT) == "PUT"
    assert growth_name(Growth.GROWTH_UNSPECIFIED) == "CONSTANT"
    assert event_name(EventType.EVENT_TYPE_RECOVERED) == "RECOVERED"
    assert reason_name(Reason.REASON_UNSPECIFIED) == ""
    assert reason_name(Reason.REASON_DNS) == "DNS"
    assert (state_name(99), event_name(99), reason_name(99)) == ("99", "99", "99")


# --- timeline ---------------------------------------------------------------------------------


def event(sequence: int, offset_ms: int, type_: EventType.ValueType, **fields: object) -> TimelineEvent:
    happened = TimelineEvent(sequence=sequence, type=type_, description="What happened")
    happened.create_time.FromMilliseconds(NEW_YEAR_MS + offset_ms)
    if "next_ms" in fields:
        happened.next_time.FromMilliseconds(NEW_YEAR_MS + int(str(fields["next_ms"])))
    if "status" in fields:
        happened.status_code = int(str(fields["status"]))
        happened.latency.FromMilliseconds(1_234)
    return happened


def test_a_timeline_has_a_row_an_event() -> None:
    console, written = plain()
    view = TimelineView(console)
    view.show(event(1, 0, EventType.EVENT_TYPE_SUBSCRIBED, next_ms=1_500))
    view.show(event(2, 1_500, EventType.EVENT_TYPE_ERRORED, status=503))
    view.show(event(3, 1_500, EventType.EVENT_TYPE_RETRY_SCHEDULED, next_ms=1_500))
    assert written.getvalue().splitlines() == [
        "TIME            #  EVENT             STATUS  LATENCY      NEXT  DESCRIPTION",
        "00:00:00.000    1  SUBSCRIBED                          in 1.5s  What happened",
        "00:00:01.500    2  ERRORED              503   1.234s            What happened",
        "00:00:01.500    3  RETRY_SCHEDULED                         now  What happened",
    ]


def test_a_gap_is_a_line_of_its_own() -> None:
    console, written = plain()
    messages = [
        WatchResponse(event=event(100, 0, EventType.EVENT_TYPE_DISPATCHED)),
        WatchResponse(gap=TimelineGap(first_sequence=101, last_sequence=4_321)),
        WatchResponse(event=event(4_322, 0, EventType.EVENT_TYPE_DISPATCHED)),
    ]
    output = Output(as_json=False)
    output.console = console
    show(messages, output)
    assert [line.split("  ")[0] for line in written.getvalue().splitlines()[1:]] == [
        "00:00:00.000",
        "... events 101 to 4,321 are not kept any more",
        "00:00:00.000",
    ]


def test_another_day_than_today_is_named_once() -> None:
    console, written = plain()
    view = TimelineView(console)
    for sequence, offset_ms in ((1, -2), (2, -1), (3, 0)):
        view.show(event(sequence, offset_ms, EventType.EVENT_TYPE_DISPATCHED))
    firsts = [line.split()[0] for line in written.getvalue().splitlines()]
    assert firsts == ["2025-12-31", "TIME", "23:59:59.998", "23:59:59.999", "2026-01-01", "00:00:00.000"]


# --- tasks ------------------------------------------------------------------------------------


def full_task() -> Task:
    task = Task(task_id="t1", queue="q", state=TaskState.TASK_STATE_RETRYING, attempt_count=3, retry_count=1)
    task.http_target.url = "https://example.com/"
    task.http_target.headers["X-A"] = "1"
    task.http_target.query_params["b"] = "2"
    task.http_target.body = b"x" * 1_500
    task.http_target.follow_redirects = True
    task.schedule.start_deadline.FromMilliseconds(60_000)
    task.retry_policy.max_retries = 5
    task.retry_policy.backoff.interval.FromMilliseconds(500)
    task.retry_policy.backoff.growth = Growth.GROWTH_EXPONENTIAL
    task.retry_policy.backoff.max_interval.FromMilliseconds(8_000)
    task.retry_policy.backoff.jitter = 0.25
    task.retry_policy.max_duration.FromMilliseconds(3_600_000)
    task.retry_policy.retryable_status_codes.extend([429, 503])
    task.repeat_policy.max_repeats = 2
    task.attempt_timeout.FromMilliseconds(300_000)
    task.labels["a"] = "1"
    task.create_time.FromMilliseconds(NEW_YEAR_MS - 90_000)
    task.schedule_time.FromMilliseconds(NEW_YEAR_MS + 5_000)
    task.last_attempt.attempt = 3
    task.last_attempt.dispatch_time.FromMilliseconds(NEW_YEAR_MS - 1_000)
    task.last_attempt.latency.FromMilliseconds(12)
    task.last_attempt.reason = Reason.REASON_TIMEOUT
    return task


def test_a_task_as_a_line() -> None:
    assert task_line(full_task()).plain == "t1  RETRYING  POST https://example.com/  due in 5s"
    ended = Task(task_id="t2", state=TaskState.TASK_STATE_COMPLETED)
    ended.http_target.url = "https://example.com/"
    assert task_line(ended).plain == "t2  COMPLETED  POST https://example.com/"


def test_tasks_as_a_table() -> None:
    console, written = plain()
    print_tasks(console, [full_task(), Task(task_id="t2")])
    assert written.getvalue().splitlines() == [
        "TASK ID  STATE        DUE    ATTEMPTS  QUEUE  CREATED     REQUEST",
        "t1       RETRYING     in 5s         3  q      1m30s ago   POST https://example.com/",
        "t2       UNSPECIFIED                0         20454d ago  POST",
    ]


def test_everything_about_a_task() -> None:
    shown = {name: str(value) for name, value in task_details(full_task())}
    assert shown == {
        "task id": "t1",
        "state": "RETRYING",
        "queue": "q",
        "request": "POST https://example.com/",
        "header": "X-A: 1",
        "query": "b=2",
        "body": "1,500 bytes",
        "": "x" * 1_500,
        "redirects": "followed",
        "start": "within 1m of the due time",
        "retry": (
            "up to 5 a run, exponential from 500ms, at most 8s, jitter 0.25, within 1h, on status 429, 503"
        ),
        "repeat": "up to 2, every 1s",
        "timeout": "5m an attempt",
        "label": "a=1",
        "created": "2025-12-31 23:58:30.000+00:00 (1m30s ago)",
        "due": "2026-01-01 00:00:05.000+00:00 (in 5s)",
        "attempts": "3",
        "retries": "1 in this run",
        "repetitions": "0",
        "last attempt": "number 3, TIMEOUT, 12ms, started 2025-12-31 23:59:59.000+00:00",
    }


def test_a_retry_or_repetition_at_an_instant() -> None:
    task = Task()
    task.retry_policy.retry_at.FromMilliseconds(NEW_YEAR_MS)
    task.repeat_policy.repeat_at.FromMilliseconds(NEW_YEAR_MS)
    shown = dict(task_details(task))
    assert shown["retry"] == shown["repeat"] == "once, at 2026-01-01 00:00:00.000+00:00"
