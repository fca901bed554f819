"""What a task may be: every refused field with the message it gets, and what an accepted task becomes."""

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kuueri_grpc.domain.task import (
    Backoff,
    Growth,
    HttpMethod,
    HttpTarget,
    RepeatPolicy,
    RetryPolicy,
    Schedule,
    TaskSpec,
)
from kuueri_grpc.pb import task_pb2 as pb
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.read_task import read_task
from kuueri_grpc.service.times import DAY_MS, TEN_YEARS_MS, to_duration, to_timestamp
from kuueri_grpc.service.violations import InvalidFields, Violation, Violations

NOW_MS = 1_700_000_000_000
NOW = "2023-11-14T22:13:20.000Z"
URL = "https://example.com/hook"
ID_EXPECTED = "expected 1 to 128 characters of [A-Za-z0-9_-]"


def read(task: pb.Task, limits: Limits = Limits()) -> TaskSpec:
    violations = Violations()
    spec = read_task(task, "task", limits, NOW_MS, violations)
    violations.raise_if_any()
    return spec


def faults(task: pb.Task, limits: Limits = Limits()) -> list[Violation]:
    with pytest.raises(InvalidFields) as caught:
        read(task, limits)
    return list(caught.value.violations)


def task(change: Callable[[pb.Task], object] = lambda _: None) -> pb.Task:
    made = pb.Task(http_target=pb.HttpTarget(url=URL))
    change(made)
    return made


def with_target(**fields: object) -> pb.Task:
    return pb.Task(http_target=pb.HttpTarget(**{"url": URL, **fields}))  # type: ignore[arg-type]


def with_schedule(**fields: object) -> pb.Task:
    return pb.Task(http_target=pb.HttpTarget(url=URL), schedule=pb.Schedule(**fields))  # type: ignore[arg-type]


def with_retry(**fields: object) -> pb.Task:
    return pb.Task(
        http_target=pb.HttpTarget(url=URL),
        retry_policy=pb.RetryPolicy(**fields),  # type: ignore[arg-type]
    )


def with_repeat(**fields: object) -> pb.Task:
    return pb.Task(
        http_target=pb.HttpTarget(url=URL),
        repeat_policy=pb.RepeatPolicy(**fields),  # type: ignore[arg-type]
    )


def with_backoff(**fields: object) -> pb.Task:
    return with_retry(backoff=pb.Backoff(**fields))  # type: ignore[arg-type]


def after(wait_ms: int) -> Timestamp:
    return to_timestamp(NOW_MS + wait_ms)


def test_the_least_that_a_task_says_gives_the_defaults() -> None:
    assert read(task()) == TaskSpec(
        task_id="",
        target=HttpTarget(URL, HttpMethod.POST, {}, {}, b"", follow_redirects=False),
        queue="default",
        schedule=Schedule(),
        retry=RetryPolicy(),
        repeat=RepeatPolicy(),
        attempt_timeout_ms=300_000,
        labels={},
    )


def test_everything_that_a_task_can_say_is_read() -> None:
    everything = pb.Task(
        task_id="order-1",
        queue="orders",
        http_target=pb.HttpTarget(
            url=URL,
            http_method=pb.HTTP_METHOD_PUT,
            headers={"x-a": "1"},
            query_params={"q": "ä b"},
            body=b"\x00\xff",
            follow_redirects=True,
        ),
        schedule=pb.Schedule(at=after(5), start_deadline=to_duration(60_000)),
        retry_policy=pb.RetryPolicy(
            max_retries=1_000,
            backoff=pb.Backoff(
                interval=to_duration(250),
                growth=pb.GROWTH_EXPONENTIAL,
                max_interval=to_duration(365 * DAY_MS),
                jitter=0.5,
            ),
            max_duration=to_duration(90_000),
            retryable_status_codes=[503, 429, 503],
        ),
        repeat_policy=pb.RepeatPolicy(max_repeats=1_000_000, backoff=pb.Backoff(growth=pb.GROWTH_LINEAR)),
        attempt_timeout=to_duration(1),
        labels={"team": "billing", "a.b_c-1": ""},
        state=pb.TASK_STATE_FAILED,  # output only: ignored
        attempt_count=7,
    )
    assert read(everything) == TaskSpec(
        task_id="order-1",
        target=HttpTarget(
            URL, HttpMethod.PUT, {"x-a": "1"}, {"q": "ä b"}, b"\x00\xff", follow_redirects=True
        ),
        queue="orders",
        schedule=Schedule(at_ms=NOW_MS + 5, start_deadline_ms=60_000),
        retry=RetryPolicy(
            1_000, Backoff(250, Growth.EXPONENTIAL, 365 * DAY_MS, 0.5), None, 90_000, (503, 429)
        ),
        repeat=RepeatPolicy(1_000_000, Backoff(1_000, Growth.LINEAR)),
        attempt_timeout_ms=1,
        labels={"team": "billing", "a.b_c-1": ""},
    )


@pytest.mark.parametrize(
    ("message", "schedule"),
    [
        (with_schedule(), Schedule()),
        (with_schedule(delay=Duration()), Schedule(delay_ms=0)),
        (with_schedule(delay=to_duration(TEN_YEARS_MS)), Schedule(delay_ms=TEN_YEARS_MS)),
        (with_schedule(at=Timestamp()), Schedule(at_ms=0)),
        (with_schedule(at=after(-5)), Schedule(at_ms=NOW_MS - 5)),
        (with_schedule(at=after(TEN_YEARS_MS)), Schedule(at_ms=NOW_MS + TEN_YEARS_MS)),
        (
            with_schedule(at=after(-5), start_deadline=to_duration(5)),
            Schedule(at_ms=NOW_MS - 5, start_deadline_ms=5),
        ),
        (with_schedule(start_deadline=to_duration(1)), Schedule(start_deadline_ms=1)),
    ],
)
def test_reads_a_schedule(message: pb.Task, schedule: Schedule) -> None:
    assert read(message).schedule == schedule


@pytest.mark.parametrize(
    ("message", "policy"),
    [
        (with_retry(), RetryPolicy()),
        (with_retry(max_retries=3), RetryPolicy(3)),
        (with_retry(retry_at=after(1)), RetryPolicy(1, retry_at_ms=NOW_MS + 1)),
        (with_retry(retry_at=after(1), max_retries=1), RetryPolicy(1, retry_at_ms=NOW_MS + 1)),
        (with_retry(max_duration=Duration()), RetryPolicy(max_duration_ms=None)),
    ],
)
def test_reads_a_retry_policy(message: pb.Task, policy: RetryPolicy) -> None:
    assert read(message).retry == policy


@pytest.mark.parametrize(
    ("message", "policy"),
    [
        (with_repeat(), RepeatPolicy()),
        (with_repeat(max_repeats=3), RepeatPolicy(3)),
        (with_repeat(repeat_at=after(1)), RepeatPolicy(1, repeat_at_ms=NOW_MS + 1)),
        (with_repeat(repeat_at=after(1), max_repeats=1), RepeatPolicy(1, repeat_at_ms=NOW_MS + 1)),
    ],
)
def test_reads_a_repeat_policy(message: pb.Task, policy: RepeatPolicy) -> None:
    assert read(message).repeat == policy


def test_retry_at_counts_from_the_first_due_time() -> None:
    message = with_schedule(at=after(1_000))
    message.retry_policy.retry_at.CopyFrom(after(1_001))
    assert read(message).retry.retry_at_ms == NOW_MS + 1_001


REFUSED: dict[str, tuple[pb.Task, str, str]] = {
    "task_id with a space": (
        task(lambda t: setattr(t, "task_id", "a b")),
        "task.task_id",
        f"is 'a b'; {ID_EXPECTED}",
    ),
    "task_id too long": (
        task(lambda t: setattr(t, "task_id", "a" * 129)),
        "task.task_id",
        f"is '{'a' * 61}...'; {ID_EXPECTED}",
    ),
    "task_id with a newline at its end": (
        task(lambda t: setattr(t, "task_id", "a\n")),
        "task.task_id",
        f"is 'a\\n'; {ID_EXPECTED}",
    ),
    "queue": (task(lambda t: setattr(t, "queue", "a/b")), "task.queue", f"is 'a/b'; {ID_EXPECTED}"),
    "no http_target": (pb.Task(), "task.http_target", "is required; expected the HTTP request to make"),
    "no url": (
        pb.Task(http_target=pb.HttpTarget()),
        "task.http_target.url",
        "is required; expected an absolute http or https URL such as https://example.com/hook",
    ),
    "url": (
        pb.Task(http_target=pb.HttpTarget(url="ftp://example.com")),
        "task.http_target.url",
        "has scheme 'ftp'; expected an absolute http or https URL such as https://example.com/hook",
    ),
    "method": (
        with_target(http_method=99),
        "task.http_target.http_method",
        "is 99, which is no HttpMethod; expected one of POST, PUT, PATCH, DELETE, GET, HEAD",
    ),
    "headers": (
        with_target(headers={"Host": "x"}),
        'task.http_target.headers["Host"]',
        "is set by the server from the URL and the body; leave it out",
    ),
    "query_params": (
        with_target(query_params={"q": "ä" * 340}),
        "task.http_target.query_params",
        "make the URL 2,067 characters long, encoded; at most 2,000 are allowed",
    ),
    "body on GET": (
        with_target(http_method=pb.HTTP_METHOD_GET, body=b"abc"),
        "task.http_target.body",
        "has 3 bytes, and a GET request has none; leave it empty, or use POST, PUT or PATCH",
    ),
    "body on HEAD": (
        with_target(http_method=pb.HTTP_METHOD_HEAD, body=b"abc"),
        "task.http_target.body",
        "has 3 bytes, and a HEAD request has none; leave it empty, or use POST, PUT or PATCH",
    ),
    "body on DELETE": (
        with_target(http_method=pb.HTTP_METHOD_DELETE, body=b"abc"),
        "task.http_target.body",
        "has 3 bytes, and a DELETE request has none; leave it empty, or use POST, PUT or PATCH",
    ),
    "body": (
        with_target(body=b"a" * 1_048_577),
        "task.http_target.body",
        "has 1,048,577 bytes; at most 1,048,576 are allowed",
    ),
    "at too far": (
        with_schedule(at=after(TEN_YEARS_MS + 1)),
        "task.schedule.at",
        "is 2033-11-14T10:13:20.001Z; expected at most 10 years from now",
    ),
    "at before 1970": (
        with_schedule(at=Timestamp(seconds=-1)),
        "task.schedule.at",
        "is before 1970-01-01T00:00:00Z; expected a later instant",
    ),
    "delay": (
        with_schedule(delay=Duration(seconds=-1)),
        "task.schedule.delay",
        "is negative; expected 0 to 10 years",
    ),
    "start_deadline": (
        with_schedule(start_deadline=Duration()),
        "task.schedule.start_deadline",
        "is 0 ms; expected 1 ms to 10 years",
    ),
    "start_deadline that is over": (
        with_schedule(at=after(-90_000), start_deadline=to_duration(60_000)),
        "task.schedule.start_deadline",
        "was over at 2023-11-14T22:12:50.000Z, 30,000 ms ago; expected a longer one, or a later at",
    ),
    "max_retries": (
        with_retry(max_retries=1_001),
        "task.retry_policy.max_retries",
        "is 1,001; expected 0 to 1,000",
    ),
    "negative max_retries": (
        with_retry(max_retries=-1),
        "task.retry_policy.max_retries",
        "is -1; expected 0 to 1,000",
    ),
    "interval": (
        with_backoff(interval=Duration()),
        "task.retry_policy.backoff.interval",
        "is 0 ms; expected 1 ms to 365 days",
    ),
    "max_interval": (
        with_backoff(max_interval=to_duration(365 * DAY_MS + 1)),
        "task.retry_policy.backoff.max_interval",
        "is 31,536,000,001 ms; expected 1 ms to 365 days",
    ),
    "growth": (
        with_backoff(growth=99),
        "task.retry_policy.backoff.growth",
        "is 99, which is no Growth; expected one of CONSTANT, LINEAR, EXPONENTIAL",
    ),
    "jitter": (with_backoff(jitter=1.5), "task.retry_policy.backoff.jitter", "is 1.5; expected 0 to 1"),
    "negative jitter": (
        with_backoff(jitter=-0.1),
        "task.retry_policy.backoff.jitter",
        "is -0.1; expected 0 to 1",
    ),
    "jitter that is no number": (
        with_backoff(jitter=float("nan")),
        "task.retry_policy.backoff.jitter",
        "is nan; expected 0 to 1",
    ),
    "retry_at at the due time": (
        with_retry(retry_at=after(0)),
        "task.retry_policy.retry_at",
        f"is {NOW}; expected later than the first due time {NOW}",
    ),
    "retry_at before the due time": (
        pb.Task(
            http_target=pb.HttpTarget(url=URL),
            schedule=pb.Schedule(delay=to_duration(2_000)),
            retry_policy=pb.RetryPolicy(retry_at=after(1_000)),
        ),
        "task.retry_policy.retry_at",
        "is 2023-11-14T22:13:21.000Z; expected later than the first due time 2023-11-14T22:13:22.000Z",
    ),
    "retry_at with several retries": (
        with_retry(retry_at=after(1), max_retries=2),
        "task.retry_policy.max_retries",
        "is 2; expected 1, or unset, together with retry_at",
    ),
    "max_duration": (
        with_retry(max_duration=to_duration(366 * DAY_MS)),
        "task.retry_policy.max_duration",
        "is 31,622,400,000 ms; expected 0 to 365 days",
    ),
    "status code out of range": (
        with_retry(retryable_status_codes=[503, 600]),
        "task.retry_policy.retryable_status_codes[1]",
        "is 600; expected 100 to 599",
    ),
    "status code of success": (
        with_retry(retryable_status_codes=[204]),
        "task.retry_policy.retryable_status_codes[0]",
        "is 204, a success answer; expected none of 200 to 299",
    ),
    "too many status codes": (
        with_retry(retryable_status_codes=[503] * 501),
        "task.retry_policy.retryable_status_codes",
        "are 501; at most 500 are allowed",
    ),
    "max_repeats": (
        with_repeat(max_repeats=1_000_001),
        "task.repeat_policy.max_repeats",
        "is 1,000,001; expected 0 to 1,000,000",
    ),
    "interval of repetitions": (
        with_repeat(backoff=pb.Backoff(interval=Duration())),
        "task.repeat_policy.backoff.interval",
        "is 0 ms; expected 1 ms to 365 days",
    ),
    "repeat_at before the due time": (
        with_repeat(repeat_at=after(-1)),
        "task.repeat_policy.repeat_at",
        f"is 2023-11-14T22:13:19.999Z; expected later than the first due time {NOW}",
    ),
    "repeat_at with several repetitions": (
        with_repeat(repeat_at=after(1), max_repeats=2),
        "task.repeat_policy.max_repeats",
        "is 2; expected 1, or unset, together with repeat_at",
    ),
    "attempt_timeout of nothing": (
        task(lambda t: t.attempt_timeout.CopyFrom(Duration())),
        "task.attempt_timeout",
        "is 0 ms; expected 1 ms to 1,800 s",
    ),
    "attempt_timeout": (
        task(lambda t: t.attempt_timeout.CopyFrom(to_duration(1_800_001))),
        "task.attempt_timeout",
        "is 1,800,001 ms; expected 1 ms to 1,800 s",
    ),
    "label key": (
        task(lambda t: t.labels.update({"Team": "x"})),
        'task.labels["Team"]',
        "is no label key; expected 1 to 63 characters of [a-z0-9_.-]",
    ),
    "label value": (
        task(lambda t: t.labels.update({"team": "x" * 256})),
        'task.labels["team"]',
        "has 256 characters; at most 255 are allowed",
    ),
    "labels": (
        task(lambda t: t.labels.update({f"k{i}": "" for i in range(65)})),
        "task.labels",
        "are 65; at most 64 are allowed",
    ),
}


@pytest.mark.parametrize(("message", "field", "fault"), REFUSED.values(), ids=REFUSED)
def test_refuses(message: pb.Task, field: str, fault: str) -> None:
    limits = Limits(max_url_length=2_000) if field.endswith("query_params") else Limits()
    assert faults(message, limits) == [Violation(field, fault)]


def test_all_faults_are_reported_at_once_in_the_order_of_the_fields() -> None:
    bad = pb.Task(
        task_id="a b",
        queue="a b",
        http_target=pb.HttpTarget(url="x", http_method=99, headers={"host": "x"}),  # type: ignore[arg-type]
        schedule=pb.Schedule(delay=Duration(seconds=-1)),
        retry_policy=pb.RetryPolicy(max_retries=-1, backoff=pb.Backoff(jitter=2)),
        repeat_policy=pb.RepeatPolicy(max_repeats=-1),
        attempt_timeout=Duration(),
        labels={"A": ""},
    )
    assert [fault.field for fault in faults(bad)] == [
        "task.task_id",
        "task.queue",
        "task.http_target.url",
        "task.http_target.http_method",
        'task.http_target.headers["host"]',
        "task.schedule.delay",
        "task.retry_policy.max_retries",
        "task.retry_policy.backoff.jitter",
        "task.repeat_policy.max_repeats",
        "task.attempt_timeout",
        'task.labels["A"]',
    ]


def test_the_limits_themselves_are_allowed() -> None:
    limits = Limits()
    full = pb.Task(
        task_id="a" * 128,
        queue="q" * 128,
        http_target=pb.HttpTarget(
            url=URL.ljust(limits.max_url_length, "x"),
            headers={"x": "v" * (limits.max_header_bytes - 1)},
            body=bytes(limits.max_body_bytes),
        ),
        attempt_timeout=to_duration(1_800_000),
        labels={f"{i:063}": "v" * 255 for i in range(64)},
    )
    assert read(full).target.body == bytes(limits.max_body_bytes)


def test_no_fault_repeats_a_body() -> None:
    bad = with_target(http_method=pb.HTTP_METHOD_GET, body=b"hunter2" * 200_000)
    assert "hunter2" not in str(faults(bad))
