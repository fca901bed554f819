"""Row 3: repetitions after success answers, each with the full retry budget."""

import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import (
    Project,
    ms,
    of_type,
    post,
    reason_name,
    repeats,
    retries,
    state_name,
    timestamp,
    types,
    wait,
)
from tests.acceptance.targets import OK, Target, now_ms, status
from tests.acceptance.test_row_02_retry import assert_never_early, waits

ERROR = status(500)


@pytest.mark.parametrize(
    ("growth", "expected_ms"),
    [("CONSTANT", [40, 40, 40]), ("LINEAR", [40, 80, 120]), ("EXPONENTIAL", [40, 80, 160])],
)
async def test_row_03_repeat_count_and_interval(
    project: Project, target: Target, growth: str, expected_ms: list[int]
) -> None:
    backoff = wait(40, task_pb2.Growth.Value(f"GROWTH_{growth}"))
    task = await project.subscribe(
        post(
            target.script("/hook", OK),
            repeat_policy=task_pb2.RepeatPolicy(max_repeats=3, backoff=backoff),
        )
    )
    task, events = await project.ended(task.task_id)

    assert types(events) == [
        "SUBSCRIBED",
        *["DISPATCHED", "SUCCEEDED", "REPEAT_SCHEDULED"] * 3,
        *["DISPATCHED", "SUCCEEDED", "COMPLETED"],
    ]
    assert waits(events, "REPEAT_SCHEDULED") == expected_ms
    assert_never_early(target.at("/hook"), events, "REPEAT_SCHEDULED")
    assert (state_name(task), task.attempt_count, task.repeat_count) == ("COMPLETED", 4, 3)


async def test_row_03_repeat_at_an_instant_happens_once(project: Project, target: Target) -> None:
    repeat_at_ms = now_ms() + 700
    task = await project.subscribe(
        post(
            target.script("/hook", OK),
            repeat_policy=task_pb2.RepeatPolicy(repeat_at=timestamp(repeat_at_ms)),
        )
    )
    task, events = await project.ended(task.task_id)

    _, second = target.at("/hook")
    assert second.received_ms >= repeat_at_ms
    (scheduled,) = of_type(events, "REPEAT_SCHEDULED")
    # At once, should the first attempt have come so late.
    assert ms(scheduled.next_time) == max(repeat_at_ms, ms(scheduled.create_time))
    assert (state_name(task), task.attempt_count, task.repeat_count) == ("COMPLETED", 2, 1)


async def test_row_03_each_repetition_has_the_full_retry_budget(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(
            target.script("/hook", *[ERROR, ERROR, OK] * 3),
            retry_policy=retries(2, 10),
            repeat_policy=repeats(2, 15),
        )
    )
    task, events = await project.ended(task.task_id)

    run = ["DISPATCHED", "ERRORED", "RETRY_SCHEDULED"] * 2 + ["DISPATCHED", "SUCCEEDED"]
    again = [*run, "REPEAT_SCHEDULED"]
    assert types(events) == ["SUBSCRIBED", *again, *again, *run, "COMPLETED"]
    assert [exchange.attempt for exchange in target.at("/hook")] == list(range(1, 10))
    assert (task.attempt_count, task.repeat_count, task.retry_count) == (9, 2, 2)


async def test_row_03_a_run_whose_retries_are_used_up_ends_the_task(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(
            target.script("/hook", ERROR, OK, ERROR, ERROR),
            retry_policy=retries(1),
            repeat_policy=repeats(5),
        )
    )
    task, events = await project.ended(task.task_id)

    assert (state_name(task), reason_name(events[-1])) == ("FAILED", "RETRIES_EXHAUSTED")
    assert (task.attempt_count, task.repeat_count, task.retry_count) == (4, 1, 1)
    assert len(of_type(events, "SUCCEEDED")) == 1
    assert len(target.at("/hook")) == 4


async def test_row_03_the_retry_wait_starts_anew_in_each_run(project: Project, target: Target) -> None:
    growing = task_pb2.RetryPolicy(max_retries=2, backoff=wait(20, task_pb2.GROWTH_LINEAR))
    task = await project.subscribe(
        post(
            target.script("/hook", *[ERROR, ERROR, OK] * 2),
            retry_policy=growing,
            repeat_policy=repeats(1),
        )
    )
    _, events = await project.ended(task.task_id)

    assert waits(events) == [20, 40, 20, 40]
