"""The fingerprint of a task: the same for what is carried out alike, another for everything else."""

import dataclasses

import pytest

from kuueri_grpc.domain.content import DEFAULT_HEADERS
from kuueri_grpc.domain.task import TaskSpec
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.service.fingerprint import fingerprint
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.read_task import read_task
from kuueri_grpc.service.times import to_duration, to_timestamp
from kuueri_grpc.service.violations import Violations

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def read(task: task_pb2.Task) -> TaskSpec:
    violations = Violations()
    spec = read_task(task, "task", Limits(), NOW_MS, violations)
    violations.raise_if_any()
    return spec


def task(**fields: object) -> task_pb2.Task:
    return task_pb2.Task(http_target=task_pb2.HttpTarget(url="https://example.com/"), **fields)  # type: ignore[arg-type]


def of(message: task_pb2.Task) -> str:
    return fingerprint(read(message))


def test_a_default_that_is_written_out_is_the_same_as_one_that_is_unset() -> None:
    written = task(
        queue="default",
        attempt_timeout=to_duration(300_000),
        schedule=task_pb2.Schedule(delay=to_duration(0)),
        retry_policy=task_pb2.RetryPolicy(
            max_retries=0,
            backoff=task_pb2.Backoff(
                interval=to_duration(1_000), growth=task_pb2.GROWTH_CONSTANT, jitter=-0.0
            ),
            max_duration=to_duration(0),
        ),
        repeat_policy=task_pb2.RepeatPolicy(
            backoff=task_pb2.Backoff(max_interval=to_duration(365 * 24 * HOUR_MS))
        ),
    )
    written.http_target.http_method = task_pb2.HTTP_METHOD_POST
    for name, value in DEFAULT_HEADERS.items():
        written.http_target.headers[name.title()] = value
    assert of(written) == of(task())


def test_the_longest_wait_of_exponential_growth_is_an_hour_by_default() -> None:
    unset = task_pb2.Backoff(growth=task_pb2.GROWTH_EXPONENTIAL)
    written = task_pb2.Backoff(growth=task_pb2.GROWTH_EXPONENTIAL, max_interval=to_duration(HOUR_MS))
    one, other = (
        task(retry_policy=task_pb2.RetryPolicy(max_retries=3, backoff=backoff))
        for backoff in (unset, written)
    )
    assert of(one) == of(other)


def test_a_longest_wait_that_retry_after_may_reach_is_not_the_default() -> None:
    written = task_pb2.Backoff(max_interval=to_duration(365 * 24 * HOUR_MS))
    assert of(task(retry_policy=task_pb2.RetryPolicy(max_retries=3, backoff=written))) != of(
        task(retry_policy=task_pb2.RetryPolicy(max_retries=3))
    )


def test_a_retry_at_an_instant_is_one_retry_whether_that_is_written_out_or_not() -> None:
    policies = [
        task_pb2.RetryPolicy(max_retries=count, retry_at=to_timestamp(NOW_MS + HOUR_MS)) for count in (0, 1)
    ]
    one, other = (task(retry_policy=policy) for policy in policies)
    assert of(one) == of(other)


def test_the_order_of_maps_and_of_status_codes_does_not_count() -> None:
    one, other = task(), task()
    names = [f"k{i}" for i in range(20)]
    for name in names:
        one.labels[name] = one.http_target.headers[name] = one.http_target.query_params[name] = "v"
    for name in reversed(names):
        other.labels[name] = other.http_target.headers[name] = other.http_target.query_params[name] = "v"
    one.retry_policy.retryable_status_codes.extend([500, 429, 500])
    other.retry_policy.retryable_status_codes.extend([429, 500])
    assert of(one) == of(other)


def test_what_only_the_server_sets_does_not_count() -> None:
    answered = task(
        task_id="a", state=task_pb2.TASK_STATE_FAILED, attempt_count=3, view=task_pb2.TASK_VIEW_BASIC
    )
    answered.http_target.body_size = 7
    assert of(answered) == of(task(task_id="a"))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TaskSpec)])
def test_every_field_counts(field: str) -> None:
    policy = task_pb2.RetryPolicy(max_retries=1)
    other = task(
        task_id="a",
        queue="q",
        schedule=task_pb2.Schedule(delay=to_duration(1)),
        retry_policy=policy,
        repeat_policy=task_pb2.RepeatPolicy(max_repeats=1),
        attempt_timeout=to_duration(1),
        labels={"a": "b"},
    )
    other.http_target.body = b"1"
    spec = read(task())
    assert fingerprint(dataclasses.replace(spec, **{field: getattr(read(other), field)})) != fingerprint(spec)


def test_it_is_kept_for_a_day_and_stays_what_it_is() -> None:
    """A repeated call may meet another version of the server."""
    assert of(task()) == "158e6f93fd106915930ef734fef5ce204d103099cf3575ada0bd4c8654a215f4"
