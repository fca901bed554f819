"""Row 8: reading tasks and timelines."""

import asyncio

import grpc
import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import (
    Project,
    after,
    duration,
    ms,
    post,
    repeats,
    retries,
    state_name,
    timestamp,
    types,
    wait,
)
from tests.acceptance.targets import OK, Target, held, now_ms, status
from tests.service.statuses import refusal

HOUR_MS = 3_600_000


async def test_row_08_a_task_is_read_as_it_was_subscribed(project: Project, target: Target) -> None:
    chosen = task_pb2.Task(
        task_id="mine",
        queue="mail",
        http_target=task_pb2.HttpTarget(
            url=target.url("/hook?a=1"),
            http_method=task_pb2.HTTP_METHOD_PUT,
            headers={"X-A": "1"},
            query_params={"b": "2"},
            body=b"\x00\xff",
            follow_redirects=True,
        ),
        schedule=task_pb2.Schedule(at=timestamp(now_ms() + HOUR_MS), start_deadline=duration(5_000)),
        retry_policy=task_pb2.RetryPolicy(
            max_retries=3,
            backoff=wait(1_500, task_pb2.GROWTH_LINEAR, max_interval=duration(4_000), jitter=0.25),
            max_duration=duration(60_000),
            retryable_status_codes=[500, 503],
        ),
        repeat_policy=task_pb2.RepeatPolicy(max_repeats=1_000_000, backoff=wait(20)),
        attempt_timeout=duration(1_234),
        labels={"team": "billing"},
    )
    accepted = await project.subscribe(chosen)
    read = await project.get("mine")

    assert read == accepted
    assert ms(read.schedule_time) == ms(chosen.schedule.at)
    assert (read.view, read.http_target.body_size) == (task_pb2.TASK_VIEW_FULL, 2)
    read.http_target.ClearField("body_size")
    for field in ("schedule_time", "create_time", "state", "view"):
        read.ClearField(field)
    chosen.repeat_policy.backoff.growth = task_pb2.GROWTH_CONSTANT
    assert read == chosen
    await project.cancel("mine")


async def test_row_08_counters_and_the_last_attempt_follow_the_task(project: Project, target: Target) -> None:
    gate, last_gate = asyncio.Event(), asyncio.Event()
    task = await project.subscribe(
        post(
            target.script("/hook", status(503), held(gate), held(last_gate)),
            retry_policy=retries(1, 10),
            repeat_policy=repeats(1, HOUR_MS),
        )
    )
    assert (task.attempt_count, task.retry_count, task.repeat_count) == (0, 0, 0)
    assert not task.HasField("last_attempt")

    await target.received("/hook", 2)
    flying = await project.get(task.task_id)
    assert (state_name(flying), flying.attempt_count, flying.retry_count) == ("DISPATCHING", 2, 1)
    # The latest attempt that has ended is the first one.
    assert (flying.last_attempt.attempt, flying.last_attempt.status_code) == (1, 503)
    retry_due = (await project.until(task.task_id, "RETRY_SCHEDULED")).next_time
    assert flying.schedule_time == retry_due

    gate.set()
    scheduled = await project.until(task.task_id, "REPEAT_SCHEDULED")
    waiting = await project.get(task.task_id)
    assert (state_name(waiting), waiting.attempt_count, waiting.repeat_count) == ("REPEATING", 2, 1)
    assert waiting.retry_count == 0
    assert waiting.schedule_time == scheduled.next_time
    assert (waiting.last_attempt.attempt, waiting.last_attempt.status_code) == (2, 200)

    await project.run(task.task_id)
    last_gate.set()
    ended, events = await project.ended(task.task_id)
    assert (state_name(ended), ended.attempt_count) == ("COMPLETED", 3)
    assert ended.end_time == events[-1].create_time
    dispatched = next(event for event in events if event.attempt == 3)
    assert ended.last_attempt.dispatch_time == dispatched.create_time
    assert not ended.HasField("schedule_time")


async def list_ids(project: Project, **filters: object) -> list[str]:
    return [task.task_id for task in (await project.list(**filters)).tasks]


async def test_row_08_list_filters_by_state_queue_and_labels_newest_first(
    project: Project, target: Target
) -> None:
    later = after(HOUR_MS)
    await project.subscribe(post(target.url("/a"), task_id="done", queue="mail", labels={"team": "a"}))
    await project.ended("done")
    await project.subscribe(post(target.url("/b"), task_id="first", schedule=later, labels={"team": "a"}))
    await project.subscribe(post(target.url("/c"), task_id="second", schedule=later, queue="mail"))
    await project.subscribe(
        post(target.url("/d"), task_id="third", schedule=later, queue="mail", labels={"team": "a", "x": "1"})
    )
    await project.pause("third")

    assert await list_ids(project) == ["third", "second", "first", "done"]
    assert await list_ids(project, state=task_pb2.TASK_STATE_SCHEDULED) == ["second", "first"]
    assert await list_ids(project, state=task_pb2.TASK_STATE_COMPLETED) == ["done"]
    assert await list_ids(project, state=task_pb2.TASK_STATE_PAUSED) == ["third"]
    assert await list_ids(project, queue="mail") == ["third", "second", "done"]
    assert await list_ids(project, queue="default") == ["first"]
    assert await list_ids(project, labels={"team": "a"}) == ["third", "first", "done"]
    assert await list_ids(project, labels={"team": "a", "x": "1"}) == ["third"]
    assert await list_ids(project, labels={"team": "b"}) == []
    assert await list_ids(project, queue="mail", state=task_pb2.TASK_STATE_SCHEDULED) == ["second"]
    listed = (await project.list(queue="default", view=task_pb2.TASK_VIEW_FULL)).tasks[0]
    assert listed == await project.get("first")


@pytest.mark.parametrize("queue", ["", "odd"])
async def test_row_08_list_pages_are_complete_and_without_repeats(
    project: Project, target: Target, queue: str
) -> None:
    results = await project.batch(
        [
            post(
                target.url("/hook"),
                task_id=f"t-{i}",
                schedule=after(HOUR_MS),
                queue="odd" if i % 2 else "even",
            )
            for i in range(25)
        ]
    )
    assert all(result.HasField("task") for result in results)
    expected = [f"t-{i}" for i in reversed(range(25)) if not queue or i % 2]

    seen: list[str] = []
    token = ""
    while True:
        page = await project.list(page_size=4, queue=queue, page_token=token)
        assert len(page.tasks) <= 4
        seen += [task.task_id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
        # What is subscribed meanwhile is newer than all that follows.
        await project.subscribe(post(target.url("/hook"), schedule=after(HOUR_MS), queue=queue))
    assert seen == expected


async def test_row_08_a_page_token_of_other_filters_or_of_nowhere_is_refused(
    project: Project, target: Target
) -> None:
    for _ in range(2):
        await project.subscribe(post(target.url("/hook"), schedule=after(HOUR_MS)))
    token = (await project.list(page_size=1)).next_page_token
    assert token

    for filters in ({"page_token": token, "queue": "mail"}, {"page_token": "nowhere"}):
        refused = await refusal(project.list(**filters))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_row_08_the_timeline_is_read_in_pages(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(target.script("/hook", status(500), OK), retry_policy=retries(1), repeat_policy=repeats(2))
    )
    _, events = await project.ended(task.task_id)
    assert types(events) == [
        "SUBSCRIBED",
        *["DISPATCHED", "ERRORED", "RETRY_SCHEDULED"],
        *["DISPATCHED", "SUCCEEDED", "REPEAT_SCHEDULED"] * 2,
        *["DISPATCHED", "SUCCEEDED", "COMPLETED"],
    ]

    pages, token = [], ""
    while True:
        page = await project.timeline_page(task.task_id, page_size=4, page_token=token)
        pages.append(list(page.events))
        token = page.next_page_token
        if not token:
            break
    assert [len(page) for page in pages] == [4, 4, 4, 1]
    assert [event for page in pages for event in page] == list(events)
    assert all(event.task_id == task.task_id and event.description for event in events)
    times = [ms(event.create_time) for event in events]
    assert times == sorted(times)
    assert [event.attempt for event in events if event.attempt] == sorted(
        event.attempt for event in events if event.attempt
    )
