"""Row 2: retries after error answers.

Delays are looked at in two places: on the timeline, where they are exact, and at the target, where they
are lower bounds. Nothing may ever be early; how late it is depends on the machine.
"""

import socket
from collections.abc import Sequence

import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import (
    Project,
    duration,
    ms,
    of_type,
    post,
    reason_name,
    retries,
    state_name,
    timestamp,
    types,
    wait,
)
from tests.acceptance.targets import OK, Exchange, Target, now_ms, status

ERROR = status(500)


def waits(events: Sequence[TimelineEvent], name: str = "RETRY_SCHEDULED") -> list[int]:
    """Return the waits that were scheduled, in ms."""
    return [ms(event.next_time) - ms(event.create_time) for event in of_type(events, name)]


def assert_never_early(
    exchanges: Sequence[Exchange], events: Sequence[TimelineEvent], name: str = "RETRY_SCHEDULED"
) -> None:
    """Each attempt but the first came when it was scheduled or later, counted from the answer before it."""
    scheduled = of_type(events, name)
    assert len(exchanges) == len(scheduled) + 1
    for before, exchange, event, waited in zip(
        exchanges, exchanges[1:], scheduled, waits(events, name), strict=False
    ):
        assert exchange.received_ms >= ms(event.next_time)
        # Both ends are cut to whole milliseconds.
        assert exchange.received_ms - before.answered_ms >= waited - 1


@pytest.mark.parametrize(
    ("growth", "expected_ms"),
    [
        ("CONSTANT", [40, 40, 40, 40]),
        ("LINEAR", [40, 80, 120, 160]),
        ("EXPONENTIAL", [40, 80, 160, 320]),
    ],
)
async def test_row_02_retry_constant_linear_exponential(
    project: Project, target: Target, growth: str, expected_ms: list[int]
) -> None:
    backoff = wait(40, task_pb2.Growth.Value(f"GROWTH_{growth}"))
    task = await project.subscribe(
        post(
            target.script("/hook", ERROR, status(404), status(429), status(503), OK),
            retry_policy=task_pb2.RetryPolicy(max_retries=5, backoff=backoff),
        )
    )
    task, events = await project.ended(task.task_id)

    assert types(events) == [
        "SUBSCRIBED",
        *["DISPATCHED", "ERRORED", "RETRY_SCHEDULED"] * 4,
        *["DISPATCHED", "SUCCEEDED", "COMPLETED"],
    ]
    assert waits(events) == expected_ms
    assert_never_early(target.at("/hook"), events)
    assert [event.status_code for event in of_type(events, "ERRORED")] == [500, 404, 429, 503]
    assert (state_name(task), task.attempt_count, task.retry_count) == ("COMPLETED", 5, 4)


async def test_row_02_retry_waits_stop_growing_at_max_interval(project: Project, target: Target) -> None:
    backoff = wait(20, task_pb2.GROWTH_EXPONENTIAL, max_interval=duration(50))
    task = await project.subscribe(
        post(
            target.script("/hook", ERROR, ERROR, ERROR, OK),
            retry_policy=task_pb2.RetryPolicy(max_retries=3, backoff=backoff),
        )
    )
    _, events = await project.ended(task.task_id)

    assert waits(events) == [20, 40, 50]
    assert_never_early(target.at("/hook"), events)


async def test_row_02_retry_with_jitter_is_never_later_than_without(project: Project, target: Target) -> None:
    backoff = wait(30, jitter=1.0)
    task = await project.subscribe(
        post(
            target.script("/hook", ERROR),
            retry_policy=task_pb2.RetryPolicy(max_retries=8, backoff=backoff),
        )
    )
    _, events = await project.ended(task.task_id)

    assert all(1 <= wait_ms <= 30 for wait_ms in waits(events))
    assert len(set(waits(events))) > 1
    assert_never_early(target.at("/hook"), events)


async def test_row_02_retries_used_up_end_the_task(project: Project, target: Target) -> None:
    task = await project.subscribe(post(target.script("/hook", ERROR), retry_policy=retries(2)))
    task, events = await project.ended(task.task_id)

    assert state_name(task) == "FAILED"
    assert reason_name(events[-1]) == "RETRIES_EXHAUSTED"
    assert len(target.at("/hook")) == task.attempt_count == 3
    assert task.retry_count == 2


async def test_row_02_without_a_retry_policy_an_error_answer_ends_the_task(
    project: Project, target: Target
) -> None:
    task = await project.subscribe(post(target.script("/hook", ERROR)))
    task, events = await project.ended(task.task_id)

    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "ERRORED", "FAILED"]
    assert (state_name(task), task.attempt_count, task.retry_count) == ("FAILED", 1, 0)


@pytest.mark.parametrize("answers", [(ERROR, OK), (ERROR, ERROR)], ids=["then 200", "then 500"])
async def test_row_02_retry_at_an_instant_happens_once(
    project: Project, target: Target, answers: tuple[object, ...]
) -> None:
    retry_at_ms = now_ms() + 700
    script = [OK if answer is OK else ERROR for answer in answers]
    task = await project.subscribe(
        post(
            target.script("/hook", *script),
            retry_policy=task_pb2.RetryPolicy(retry_at=timestamp(retry_at_ms)),
        )
    )
    task, events = await project.ended(task.task_id)

    _, second = target.at("/hook")
    assert second.received_ms >= retry_at_ms
    (scheduled,) = of_type(events, "RETRY_SCHEDULED")
    # At once, should the first attempt have come so late.
    assert ms(scheduled.next_time) == max(retry_at_ms, ms(scheduled.create_time))
    assert state_name(task) == ("COMPLETED" if script[-1] is OK else "FAILED")


async def test_row_02_retry_after_is_honoured(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(target.script("/hook", status(503, retry_after="1"), OK), retry_policy=retries(1, 10))
    )
    _, events = await project.ended(task.task_id)

    assert waits(events) == [1_000]
    assert_never_early(target.at("/hook"), events)


async def test_row_02_retry_after_is_cut_to_max_interval_and_never_shortens_a_wait(
    project: Project, target: Target
) -> None:
    patient = status(429, retry_after="3600")
    hasty = status(503, retry_after="0")
    backoff = wait(60, max_interval=duration(150))
    task = await project.subscribe(
        post(
            target.script("/hook", patient, hasty, OK),
            retry_policy=task_pb2.RetryPolicy(max_retries=2, backoff=backoff),
        )
    )
    _, events = await project.ended(task.task_id)

    assert waits(events) == [150, 60]
    assert_never_early(target.at("/hook"), events)


async def test_row_02_only_the_chosen_status_codes_are_retried(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(
            target.script("/hook", status(503), status(400)),
            retry_policy=retries(5, retryable_status_codes=[429, 503]),
        )
    )
    task, events = await project.ended(task.task_id)

    assert [event.status_code for event in of_type(events, "ERRORED")] == [503, 400]
    assert (state_name(task), reason_name(events[-1])) == ("FAILED", "NOT_RETRYABLE")
    assert len(target.at("/hook")) == 2


async def test_row_02_a_retry_beyond_max_duration_ends_the_task(project: Project, target: Target) -> None:
    # The second retry would start after the window, however fast all else is, the first one within it.
    much_later = status(503, retry_after="3600")
    task = await project.subscribe(
        post(
            target.script("/hook", ERROR, much_later),
            retry_policy=retries(100, 10, max_duration=duration(600_000)),
        )
    )
    task, events = await project.ended(task.task_id)

    assert (state_name(task), reason_name(events[-1])) == ("FAILED", "RETRY_WINDOW_OVER")
    assert len(target.at("/hook")) == task.attempt_count == 2


async def test_row_02_a_failure_without_an_answer_is_retried_whatever_the_chosen_codes(
    project: Project,
) -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else gets the port, and connections to it are refused.
        taken.bind(("127.0.0.1", 0))
        task = await project.subscribe(
            post(
                f"http://127.0.0.1:{taken.getsockname()[1]}/",
                retry_policy=retries(1, retryable_status_codes=[503]),
            )
        )
        task, events = await project.ended(task.task_id)

    errors = of_type(events, "ERRORED")
    assert [reason_name(event) for event in errors] == ["CONNECTION_REFUSED"] * 2
    assert not any(event.HasField("status_code") for event in errors)
    assert (state_name(task), reason_name(events[-1])) == ("FAILED", "RETRIES_EXHAUSTED")
