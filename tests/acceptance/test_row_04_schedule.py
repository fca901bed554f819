"""Row 4: when a task runs first, and until when it may."""

import asyncio
from pathlib import Path

import grpc
from redis import Redis

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import (
    Project,
    after,
    connected,
    duration,
    ms,
    post,
    reason_name,
    register,
    repeats,
    retries,
    state_name,
    timestamp,
    types,
)
from tests.acceptance.history import assert_expires_in_three_days
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.targets import OK, Target, listening, now_ms, passed, status
from tests.service.statuses import refusal


async def test_row_04_delay_counts_from_the_acceptance(project: Project, target: Target) -> None:
    accepted = await project.subscribe(post(target.url("/hook"), schedule=after(400)))
    assert ms(accepted.schedule_time) == ms(accepted.create_time) + 400
    assert state_name(accepted) == "SCHEDULED"

    (exchange,) = await target.received("/hook")
    assert exchange.received_ms >= ms(accepted.schedule_time)
    _, events = await project.ended(accepted.task_id)
    assert ms(events[0].next_time) == ms(accepted.schedule_time)


async def test_row_04_at_an_instant(project: Project, target: Target) -> None:
    at_ms = now_ms() + 500
    schedule = task_pb2.Schedule(at=timestamp(at_ms))
    accepted = await project.subscribe(post(target.url("/hook"), schedule=schedule))
    assert ms(accepted.schedule_time) == at_ms

    (exchange,) = await target.received("/hook")
    assert exchange.received_ms >= at_ms


async def test_row_04_at_once_without_a_schedule_and_when_the_instant_has_passed(
    project: Project, target: Target
) -> None:
    past = task_pb2.Schedule(at=timestamp(now_ms() - 3_600_000))
    await project.subscribe(post(target.url("/unset")))
    await project.subscribe(post(target.url("/past"), schedule=past))

    await target.received("/unset")
    await target.received("/past")


async def test_row_04_tasks_run_in_the_order_of_their_due_times_not_of_their_acceptance(
    project: Project, target: Target
) -> None:
    await project.batch(
        [post(target.url(f"/{place}"), schedule=after(300 * (1 + place))) for place in (2, 0, 1)]
    )

    for place in range(3):
        await target.received(f"/{place}")
    assert [exchange.path for exchange in target.exchanges] == ["/0", "/1", "/2"]


async def test_row_04_a_start_deadline_that_is_over_is_refused(project: Project, target: Target) -> None:
    schedule = task_pb2.Schedule(at=timestamp(now_ms() - 10_000), start_deadline=duration(5_000))

    refused = await refusal(project.subscribe(post(target.url("/hook"), schedule=schedule)))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refused.fields) == ["task.schedule.start_deadline"]


async def test_row_04_a_start_deadline_says_nothing_about_retries_and_repetitions(
    project: Project, target: Target
) -> None:
    schedule = task_pb2.Schedule(delay=duration(0), start_deadline=duration(2_000))
    task = await project.subscribe(
        post(
            target.script("/hook", status(500), OK),
            schedule=schedule,
            retry_policy=retries(1, 2_100),
            repeat_policy=repeats(1, 10),
        )
    )
    task, _ = await project.ended(task.task_id)

    assert (state_name(task), len(target.at("/hook"))) == ("COMPLETED", 3)


async def test_row_04_start_deadline_over_while_the_server_was_down_expires_the_task(
    tmp_path: Path,
) -> None:
    async with listening() as target:
        with Server(tmp_path, *LOOPBACK) as server:
            async with connected(server.address) as channel:
                project = await register(channel)
                at_ms = now_ms() + 1_000
                deadline = task_pb2.Schedule(at=timestamp(at_ms), start_deadline=duration(100))
                generous = task_pb2.Schedule(at=timestamp(at_ms), start_deadline=duration(3_600_000))
                strict = await project.subscribe(post(target.url("/strict"), schedule=deadline))
                patient = await project.subscribe(post(target.url("/patient"), schedule=generous))
            await asyncio.to_thread(server.kill)
            assert target.exchanges == []
            await passed(at_ms + 100)
            await asyncio.to_thread(server.start)
            async with connected(server.address) as channel:
                project = project.on(channel)
                expired, events = await project.ended(strict.task_id)
                assert types(events) == ["SUBSCRIBED", "EXPIRED"]
                assert reason_name(events[-1]) == "START_DEADLINE"
                assert (state_name(expired), expired.attempt_count) == ("EXPIRED", 0)
                late, _ = await project.ended(patient.task_id)
                assert state_name(late) == "COMPLETED"
            with Redis.from_url(server.store_url) as store:
                assert_expires_in_three_days(store, project.project_id, strict.task_id)
        # The server has ended: nothing can come any more.
        assert [exchange.path for exchange in target.exchanges] == ["/patient"]
