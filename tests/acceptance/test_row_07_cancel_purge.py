"""Row 7: cancel ends a task whatever it does; purge deletes one that does nothing."""

import asyncio

import grpc
import pytest

from kuueri_grpc.pb.task_pb2 import Task
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import (
    Project,
    after,
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

HOUR_MS = 3_600_000


async def test_row_07_cancel_of_a_waiting_task(project: Project, target: Target) -> None:
    async def subscribed_and_canceled(wait_ms: int) -> tuple[Task, Task]:
        accepted = await project.subscribe(post(target.url(f"/{wait_ms}"), schedule=after(wait_ms)))
        return accepted, await project.cancel(accepted.task_id)

    accepted, canceled = await in_time(subscribed_and_canceled)
    assert state_name(canceled) == "CANCELED"
    assert canceled.HasField("end_time")
    assert not canceled.HasField("schedule_time")

    await passed(accepted.schedule_time.ToMilliseconds())
    _, events = await project.ended(accepted.task_id)
    assert types(events) == ["SUBSCRIBED", "CANCELED"]
    assert reason_name(events[-1]) == "BY_REQUEST"
    assert target.at(path_of(accepted)) == []


async def test_row_07_cancel_again_changes_nothing_and_answers_the_same(
    project: Project, target: Target
) -> None:
    accepted = await project.subscribe(post(target.url("/hook"), schedule=after(HOUR_MS)))

    assert await project.cancel(accepted.task_id) == await project.cancel(accepted.task_id)
    assert types(await project.timeline(accepted.task_id)) == ["SUBSCRIBED", "CANCELED"]


async def test_row_07_cancel_in_flight_closes_the_connection_and_the_answer_changes_nothing(
    project: Project, target: Target
) -> None:
    gate = asyncio.Event()
    accepted = await project.subscribe(
        post(target.script("/hook", held(gate)), retry_policy=retries(5), repeat_policy=repeats(5))
    )
    (exchange,) = await target.received("/hook")
    canceled = await project.cancel(accepted.task_id)
    assert state_name(canceled) == "CANCELED"
    # Cancel has answered: the connection is closed, not being closed.
    await exchange.connection_lost()
    gate.set()

    task, events = await project.ended(accepted.task_id)
    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "CANCELED"]
    assert (state_name(task), task.attempt_count) == ("CANCELED", 1)
    assert not task.HasField("last_attempt")
    assert len(target.exchanges) == 1


@pytest.mark.parametrize("wait_kind", ["retry", "repeat"])
async def test_row_07_cancel_in_a_later_wait(project: Project, target: Target, wait_kind: str) -> None:
    answer = status(500) if wait_kind == "retry" else OK

    async def canceled_while_it_waits(wait_ms: int) -> tuple[Task, TimelineEvent]:
        url = target.script(f"/{wait_ms}", answer)
        accepted = await project.subscribe(
            post(url, retry_policy=retries(9, wait_ms), repeat_policy=repeats(9, wait_ms))
        )
        scheduled = await project.until(accepted.task_id, f"{wait_kind.upper()}_SCHEDULED")
        await project.cancel(accepted.task_id)
        return accepted, scheduled

    accepted, scheduled = await in_time(canceled_while_it_waits)
    await passed(scheduled.next_time.ToMilliseconds())

    _, events = await project.ended(accepted.task_id)
    assert types(events)[-2:] == [f"{wait_kind.upper()}_SCHEDULED", "CANCELED"]
    assert len(target.at(path_of(accepted))) == 1


async def test_row_07_cancel_of_a_paused_task(project: Project, target: Target) -> None:
    accepted = await project.subscribe(post(target.url("/hook"), schedule=after(HOUR_MS)))
    await project.pause(accepted.task_id)
    await project.cancel(accepted.task_id)

    _, events = await project.ended(accepted.task_id)
    assert types(events) == ["SUBSCRIBED", "PAUSED", "CANCELED"]


async def test_row_07_cancel_of_a_task_that_ended_otherwise_is_refused(
    project: Project, target: Target
) -> None:
    accepted = await project.subscribe(post(target.url("/hook")))
    ended, _ = await project.ended(accepted.task_id)

    refused = await refusal(project.cancel(accepted.task_id))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_ENDED")
    assert await project.get(accepted.task_id) == ended


async def test_row_07_cancel_gives_the_place_in_the_queue_back(project: Project, target: Target) -> None:
    accepted = await project.subscribe(post(target.url("/hook"), schedule=after(HOUR_MS)))
    assert (await project.facts()).task_in_queue == 1
    await project.cancel(accepted.task_id)
    assert (await project.facts()).task_in_queue == 0


async def test_row_07_purge_deletes_an_ended_task_and_frees_its_id(project: Project, target: Target) -> None:
    await project.subscribe(post(target.url("/hook"), task_id="mine"))
    await project.ended("mine")
    await project.purge("mine")

    for call in (project.get("mine"), project.timeline("mine"), project.purge("mine")):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert list((await project.list()).tasks) == []

    await project.subscribe(post(target.url("/hook"), task_id="mine"))
    _, events = await project.ended("mine")
    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]


async def test_row_07_purge_deletes_a_paused_task_for_good(project: Project, target: Target) -> None:
    async def paused_and_purged(wait_ms: int) -> Task:
        accepted = await project.subscribe(post(target.url(f"/{wait_ms}"), schedule=after(wait_ms)))
        await project.pause(accepted.task_id)
        await project.purge(accepted.task_id)
        return accepted

    accepted = await in_time(paused_and_purged)
    await passed(accepted.schedule_time.ToMilliseconds())

    assert (await refusal(project.get(accepted.task_id))).code is grpc.StatusCode.NOT_FOUND
    assert (await project.facts()).task_in_queue == 0
    assert target.at(path_of(accepted)) == []


@pytest.mark.parametrize("state", ["SCHEDULED", "DISPATCHING", "RETRYING", "REPEATING"])
async def test_row_07_purge_of_a_running_task_is_refused(
    project: Project, target: Target, state: str
) -> None:
    never = asyncio.Event()
    answer = {"DISPATCHING": held(never), "RETRYING": status(500)}.get(state, OK)
    task = post(
        target.script("/hook", answer), retry_policy=retries(1, HOUR_MS), repeat_policy=repeats(1, HOUR_MS)
    )
    if state == "SCHEDULED":
        task.schedule.CopyFrom(after(HOUR_MS))
    accepted = await project.subscribe(task)
    last_event = {
        "SCHEDULED": "SUBSCRIBED",
        "DISPATCHING": "DISPATCHED",
        "RETRYING": "RETRY_SCHEDULED",
        "REPEATING": "REPEAT_SCHEDULED",
    }[state]
    await project.until(accepted.task_id, last_event)

    refused = await refusal(project.purge(accepted.task_id))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_RUNNING")
    assert state_name(await project.get(accepted.task_id)) == state
    await project.cancel(accepted.task_id)
