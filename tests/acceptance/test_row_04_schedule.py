"""Row 4: when a task runs first, and until when it may."""

import asyncio
from contextlib import aclosing
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
    path_of,
    post,
    reason_name,
    register,
    repeats,
    retries,
    state_name,
    timestamp,
    type_name,
    types,
)
from tests.acceptance.history import assert_expires_in_three_days
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.acceptance.targets import OK, Target, in_time, listening, now_ms, passed, status
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
    taken: list[str] = []
    async with asyncio.timeout(PATIENCE_S), aclosing(project.watch_all()) as messages:
        assert (await anext(messages)).HasField("synced")
        await project.batch(
            [
                post(target.url("/hook"), task_id=f"t-{place}", schedule=after(300 * (1 + place)))
                for place in (2, 0, 1)
            ]
        )
        # Not as the target saw them: those that were taken together come on connections of their own.
        while len(taken) < 3:
            message = await anext(messages)
            if message.HasField("event") and type_name(message.event) == "DISPATCHED":
                taken.append(message.event.task_id)
    assert taken == ["t-0", "t-1", "t-2"]


async def test_row_04_a_start_deadline_that_is_over_is_refused(project: Project, target: Target) -> None:
    schedule = task_pb2.Schedule(at=timestamp(now_ms() - 10_000), start_deadline=duration(5_000))

    refused = await refusal(project.subscribe(post(target.url("/hook"), schedule=schedule)))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refused.fields) == ["task.schedule.start_deadline"]


async def test_row_04_a_start_deadline_says_nothing_about_retries_and_repetitions(
    project: Project, target: Target
) -> None:
    async def started(deadline_ms: int) -> task_pb2.Task:
        task = post(
            target.script(f"/{deadline_ms}", status(500), OK),
            schedule=task_pb2.Schedule(delay=duration(0), start_deadline=duration(deadline_ms)),
            retry_policy=retries(1, deadline_ms + 100),
            repeat_policy=repeats(1, 10),
        )
        task = await project.subscribe(task)
        await project.until(task.task_id, "DISPATCHED")
        return task

    task = await in_time(started)
    ended, _ = await project.ended(task.task_id)

    assert (state_name(ended), ended.attempt_count) == ("COMPLETED", 3)


async def test_row_04_start_deadline_over_while_the_server_was_down_expires_the_task(
    tmp_path: Path,
) -> None:
    async with listening() as target:
        with Server(tmp_path, *LOOPBACK) as server:

            async def subscribed_and_killed(
                wait_ms: int,
            ) -> tuple[Project, task_pb2.Task, task_pb2.Task]:
                if not server.running:
                    await asyncio.to_thread(server.start)
                async with connected(server.address) as channel:
                    project = await register(channel)
                    strict, patient = [
                        await project.subscribe(
                            post(
                                target.url(f"/{name}-{wait_ms}"),
                                schedule=task_pb2.Schedule(
                                    delay=duration(wait_ms), start_deadline=duration(deadline_ms)
                                ),
                            )
                        )
                        for name, deadline_ms in (("strict", 100), ("patient", 3_600_000))
                    ]
                await asyncio.to_thread(server.kill)
                return project, strict, patient

            project, strict, patient = await in_time(subscribed_and_killed)
            await passed(ms(strict.schedule_time) + 100)
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
        assert not target.at(path_of(strict))
        assert len(target.at(path_of(patient))) == 1
