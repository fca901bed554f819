"""`kuueri subscribe`'s options as a request."""

import dataclasses
import time
from typing import Any, Literal

import pytest
from google.protobuf.json_format import MessageToDict

from kuueri_grpc.cli.instants import At, FromNow
from kuueri_grpc.cli.request import (
    PolicyOptions,
    ScheduleOptions,
    SubscribeOptions,
    TargetOptions,
    build_request,
    parse_header,
)
from kuueri_grpc.domain.task import Growth, HttpMethod

BARE = SubscribeOptions(
    target=TargetOptions(url="https://example.com/"),
    schedule=ScheduleOptions(),
    retry=PolicyOptions(flag="retry"),
    repeat=PolicyOptions(flag="repeat"),
)


def built(options: SubscribeOptions) -> dict[str, Any]:
    return MessageToDict(build_request(options), preserving_proto_field_name=True)


def with_target(**changes: Any) -> SubscribeOptions:
    return dataclasses.replace(BARE, target=dataclasses.replace(BARE.target, **changes))


def with_schedule(**changes: Any) -> SubscribeOptions:
    return dataclasses.replace(BARE, schedule=ScheduleOptions(**changes))


def with_policy(flag: Literal["retry", "repeat"], **changes: Any) -> SubscribeOptions:
    policy = PolicyOptions(flag=flag, **changes)
    if flag == "retry":
        return dataclasses.replace(BARE, retry=policy)
    return dataclasses.replace(BARE, repeat=policy)


@pytest.mark.parametrize("flag", ["retry", "repeat"])
def test_an_instant_too_far_away_names_its_option(flag: Literal["retry", "repeat"]) -> None:
    far = FromNow(9_000 * 366 * 86_400_000)
    with pytest.raises(ValueError, match=rf"^--{flag}-at \+3294000d is after the year 9999$"):
        build_request(with_policy(flag, at=far))


def test_what_is_not_given_is_not_sent() -> None:
    assert built(BARE) == {"task": {"http_target": {"url": "https://example.com/"}}}


def test_everything_that_is_given_is_sent() -> None:
    options = SubscribeOptions(
        target=TargetOptions(
            url="https://example.com/",
            method=HttpMethod.PUT,
            headers=("X-A: 1", "x-b=2"),
            query=("a=1", "b="),
            body=b"\x00\xff",
            follow_redirects=True,
        ),
        schedule=ScheduleOptions(at=At(1_500), start_deadline_ms=60_000),
        retry=PolicyOptions(
            flag="retry",
            count=3,
            interval_ms=1_000,
            growth=Growth.EXPONENTIAL,
            max_interval_ms=10_000,
            jitter=0.5,
            max_duration_ms=3_600_000,
            status_codes=(503, 429),
        ),
        repeat=PolicyOptions(flag="repeat", count=2, interval_ms=500, growth=Growth.LINEAR),
        attempt_timeout_ms=250,
        queue="q",
        labels=("a=1",),
        task_id="t",
        request_id="r",
    )
    assert built(options) == {
        "request_id": "r",
        "task": {
            "task_id": "t",
            "queue": "q",
            "http_target": {
                "url": "https://example.com/",
                "http_method": "HTTP_METHOD_PUT",
                "headers": {"X-A": "1", "x-b": "2"},
                "query_params": {"a": "1", "b": ""},
                "body": "AP8=",
                "follow_redirects": True,
            },
            "schedule": {"at": "1970-01-01T00:00:01.500Z", "start_deadline": "60s"},
            "retry_policy": {
                "max_retries": 3,
                "backoff": {
                    "interval": "1s",
                    "growth": "GROWTH_EXPONENTIAL",
                    "max_interval": "10s",
                    "jitter": 0.5,
                },
                "max_duration": "3600s",
                "retryable_status_codes": [503, 429],
            },
            "repeat_policy": {"max_repeats": 2, "backoff": {"interval": "0.500s", "growth": "GROWTH_LINEAR"}},
            "attempt_timeout": "0.250s",
            "labels": {"a": "1"},
        },
    }


@pytest.mark.parametrize("method", HttpMethod)
def test_every_method_has_its_value(method: HttpMethod) -> None:
    assert built(with_target(method=method))["task"]["http_target"]["http_method"] == f"HTTP_METHOD_{method}"


def test_a_wait_is_sent_as_a_wait_so_that_the_servers_clock_counts() -> None:
    assert built(with_schedule(at=FromNow(5_000)))["task"]["schedule"] == {"delay": "5s"}
    assert built(with_schedule(delay_ms=5_000))["task"]["schedule"] == {"delay": "5s"}
    assert built(with_schedule(delay_ms=0))["task"]["schedule"] == {"delay": "0s"}


@pytest.mark.parametrize("flag", ["retry", "repeat"])
def test_one_retry_or_repetition_at_an_instant(flag: Literal["retry", "repeat"]) -> None:
    at = built(with_policy(flag, at=At(0)))["task"][f"{flag}_policy"]
    assert at == {f"{flag}_at": "1970-01-01T00:00:00Z"}
    before_ms = time.time_ns() // 1_000_000
    task = build_request(with_policy(flag, at=FromNow(5_000))).task
    instant = task.retry_policy.retry_at if flag == "retry" else task.repeat_policy.repeat_at
    assert before_ms + 5_000 <= instant.ToMilliseconds() <= time.time_ns() // 1_000_000 + 5_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (with_schedule(at=At(0), delay_ms=0), "--at does not go with --delay"),
        (with_policy("retry", at=At(0), interval_ms=1), "--retry-at does not go with --retry-interval"),
        (
            with_policy("repeat", at=At(0), growth=Growth.LINEAR),
            "--repeat-at does not go with --repeat-growth",
        ),
        (with_policy("retry", jitter=0.0), "--retry-jitter needs --max-retries or --retry-at"),
        (with_policy("retry", max_duration_ms=1), "--retry-max-duration needs --max-retries or --retry-at"),
        (with_policy("retry", status_codes=(500,)), "--retryable-status needs --max-retries or --retry-at"),
        (with_policy("repeat", interval_ms=1), "--repeat-interval needs --max-repeats or --repeat-at"),
        (with_target(headers=("X-A: 1", "x-a: 2")), "--header x-a is given twice"),
        (with_target(headers=("nothing",)), "'nothing' is not a header"),
        (with_target(query=("a=1", "a=2")), "--query a is given twice"),
        (dataclasses.replace(BARE, labels=("a",)), "'a' is not of the form NAME=VALUE"),
        (dataclasses.replace(BARE, task_id="\udcff"), "surrogates not allowed"),
    ],
)
def test_what_the_message_could_not_hold_is_refused(options: SubscribeOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_request(options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A: b", ("A", "b")),
        ("A:b", ("A", "b")),
        ("a=b", ("a", "b")),
        ("a=b: c", ("a", "b: c")),
        ("A: b=c", ("A", "b=c")),
        ("A:", ("A", "")),
    ],
)
def test_headers(text: str, expected: tuple[str, str]) -> None:
    assert parse_header(text) == expected


@pytest.mark.parametrize("text", ["", "a", ":b", "=b", " : b"])
def test_what_is_no_header(text: str) -> None:
    with pytest.raises(ValueError, match="is not a header"):
        parse_header(text)
