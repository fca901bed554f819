"""Row 6: pause keeps the delay that remains, in every kind of wait."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import (
    Project,
    after,
    ms,
    of_type,
    path_of,
    post,
    reason_name,
    repeats,
    retries,
    state_name,
    types,
)
from tests.acceptance.targets import OK, Target, held, in_time, passed, status
from tests.service.statuses import refusal

WAIT_MS = 1_200


def assert_remaining_delay_kept(
    events: Sequence[TimelineEvent], due_ms: int, wait_ms: int = WAIT_MS
) -> TimelineEvent:
    """What was left when the task was paused is what it waits after it was resumed."""
    (paused,), (resumed,) = of_type(events, "PAUSED"), of_type(events, "RESUMED")
    remaining_ms = due_ms - ms(paused.create_time)
    assert 0 < remaining_ms <= wait_ms
    assert ms(resumed.next_time) - ms(resumed.create_time) == remaining_ms
    assert reason_name(paused) == reason_name(resumed) == "BY_REQUEST"
    return resumed


@pytest.mark.parametrize(
    ("wait_kind", "waiting_state"),
    [("first", "SCHEDULED"), ("retry", "RETRYING"), ("repeat", "REPEATING")],
)
async def test_row_06_pause_keeps_the_remaining_delay(
    project: Project, target: Target, wait_kind: str, waiting_state: str
) -> None:
    done_before = 0 if wait_kind == "first" else 1
    first_answer = status(500) if wait_kind == "retry" else OK

    async def paused_before_it_is_due(wait_ms: int) -> tuple[task_pb2.Task, int, int]:
        task = post(target.script(f"/{wait_ms}", first_answer, OK))
        match wait_kind:
            case "first":
                task.schedule.CopyFrom(after(wait_ms))
            case "retry":
                task.retry_policy.CopyFrom(retries(1, wait_ms))
            case "repeat":
                task.repeat_policy.CopyFrom(repeats(1, wait_ms))
        task = await project.subscribe(task)
        if done_before:
            scheduled = await project.until(task.task_id, f"{wait_kind.upper()}_SCHEDULED")
            due_ms = ms(scheduled.next_time)
        else:
            due_ms = ms(task.schedule_time)
        paused = await project.pause(task.task_id)
        assert state_name(paused) == "PAUSED"
        return paused, due_ms, wait_ms

    paused, due_ms, wait_ms = await in_time(paused_before_it_is_due)
    path = path_of(paused)
    assert not paused.HasField("schedule_time")
    assert await project.pause(paused.task_id) == paused
    await passed(due_ms)
    assert len(target.at(path)) == done_before

    resumed = await project.resume(paused.task_id)
    assert state_name(resumed) == waiting_state
    task, events = await project.ended(paused.task_id)
    event = assert_remaining_delay_kept(events, due_ms, wait_ms)
    assert ms(resumed.schedule_time) == ms(event.next_time)
    assert len(target.at(path)) == done_before + 1
    assert target.at(path)[-1].received_ms >= ms(event.next_time)
    assert state_name(task) == "COMPLETED"


async def test_row_06_pausing_again_and_again_only_uses_up_the_time_in_between(
    project: Project, target: Target
) -> None:
    task = await project.subscribe(post(target.url("/hook"), schedule=after(3_600_000)))
    for _ in range(3):
        await project.pause(task.task_id)
        await project.resume(task.task_id)
    events = await project.timeline(task.task_id)

    assert types(events) == ["SUBSCRIBED", *["PAUSED", "RESUMED"] * 3]
    due_ms = ms(task.schedule_time)
    for paused, resumed in zip(events[1::2], events[2::2], strict=True):
        assert ms(resumed.next_time) - ms(resumed.create_time) == due_ms - ms(paused.create_time)
        due_ms = ms(resumed.next_time)
    await project.cancel(task.task_id)


async def test_row_06_pause_during_an_attempt_lets_it_finish_and_holds_the_next_wait(
    project: Project, target: Target
) -> None:
    gate = asyncio.Event()
    task = await project.subscribe(
        post(target.script("/hook", held(gate), OK), repeat_policy=repeats(1, WAIT_MS))
    )
    await target.received("/hook")
    assert state_name(await project.pause(task.task_id)) == "DISPATCHING"
    gate.set()
    await project.until(task.task_id, "PAUSED")
    held_task = await project.get(task.task_id)
    assert (state_name(held_task), held_task.repeat_count) == ("PAUSED", 1)

    assert state_name(await project.resume(task.task_id)) == "REPEATING"
    task, events = await project.ended(task.task_id)
    assert types(events) == [
        "SUBSCRIBED",
        *["DISPATCHED", "SUCCEEDED", "REPEAT_SCHEDULED"],
        *["PAUSED", "RESUMED"],
        *["DISPATCHED", "SUCCEEDED", "COMPLETED"],
    ]
    resumed = assert_remaining_delay_kept(events, ms(events[3].next_time))
    assert ms(resumed.next_time) - ms(resumed.create_time) == WAIT_MS
    assert target.at("/hook")[1].received_ms >= ms(resumed.next_time)


async def test_row_06_pause_during_the_last_attempt_lets_the_task_end(
    project: Project, target: Target
) -> None:
    gate = asyncio.Event()
    task = await project.subscribe(post(target.script("/hook", held(gate))))
    await target.received("/hook")
    await project.pause(task.task_id)
    gate.set()

    task, events = await project.ended(task.task_id)
    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]


async def test_row_06_resume_during_an_attempt_takes_the_pause_back(project: Project, target: Target) -> None:
    gate = asyncio.Event()
    task = await project.subscribe(post(target.script("/hook", held(gate), OK), repeat_policy=repeats(1, 10)))
    await target.received("/hook")
    await project.pause(task.task_id)
    assert state_name(await project.resume(task.task_id)) == "DISPATCHING"
    gate.set()

    task, events = await project.ended(task.task_id)
    assert "PAUSED" not in types(events)
    assert (state_name(task), len(target.at("/hook"))) == ("COMPLETED", 2)


async def test_row_06_resume_of_a_task_that_is_not_paused_changes_nothing(
    project: Project, target: Target
) -> None:
    task = await project.subscribe(post(target.url("/hook"), schedule=after(3_600_000)))

    assert await project.resume(task.task_id) == task
    assert types(await project.timeline(task.task_id)) == ["SUBSCRIBED"]
    await project.cancel(task.task_id)


async def test_row_06_a_paused_task_can_be_run_now(project: Project, target: Target) -> None:
    task = await project.subscribe(post(target.url("/hook"), schedule=after(3_600_000)))
    await project.pause(task.task_id)
    await project.run(task.task_id)

    task, events = await project.ended(task.task_id)
    assert types(events) == ["SUBSCRIBED", "PAUSED", "RESUMED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]
    assert reason_name(events[2]) == reason_name(events[3]) == "RUN_NOW"
    assert len(target.at("/hook")) == 1


@pytest.mark.parametrize("call", ["pause", "resume"])
async def test_row_06_an_ended_task_is_neither_paused_nor_resumed(
    project: Project, target: Target, call: str
) -> None:
    task = await project.subscribe(post(target.url("/hook")))
    task, _ = await project.ended(task.task_id)
    calls = {"pause": project.pause, "resume": project.resume}

    refused = await refusal(calls[call](task.task_id))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_ENDED")
    assert task.state == task_pb2.TASK_STATE_COMPLETED
