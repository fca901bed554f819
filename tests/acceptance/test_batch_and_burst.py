"""Many tasks at once: batches with errors among them, and all of a batch due in one instant."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, after, connected, post, register, state_name, timestamp
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.acceptance.targets import Target, now_ms
from tests.service.statuses import refusal, unpacked

HOUR_MS = 3_600_000


async def test_a_batch_of_1000_with_errors_among_them_answers_in_order(
    project: Project, target: Target
) -> None:
    await project.subscribe(post(target.url("/hook"), task_id="taken", schedule=after(HOUR_MS)))

    def item(i: int) -> task_pb2.Task:
        match i % 10:
            case 3:
                return post("nowhere", task_id=f"t-{i}", schedule=after(HOUR_MS))
            case 6:
                return post(target.url("/hook"), task_id="taken", schedule=after(HOUR_MS))
            case 9:
                # The id of the task before it.
                return post(target.url("/hook"), task_id=f"t-{i - 1}", schedule=after(HOUR_MS))
        return post(target.url("/hook"), task_id=f"t-{i}", schedule=after(HOUR_MS))

    results = await project.batch([item(i) for i in range(1_000)])

    assert len(results) == 1_000
    for i, result in enumerate(results):
        if i % 10 in (3, 6, 9):
            reason = unpacked(result.error)["ErrorInfo"].reason  # type: ignore[attr-defined]
            assert reason == ("INVALID_FIELD" if i % 10 == 3 else "TASK_EXISTS"), i
        else:
            assert (result.task.task_id, state_name(result.task)) == (f"t-{i}", "SCHEDULED")
    invalid = unpacked(results[3].error)["BadRequest"]
    violations = invalid.field_violations  # type: ignore[attr-defined]
    assert [violation.field for violation in violations] == ["tasks[3].http_target.url"]
    assert (await project.facts()).task_in_queue == 701
    listed = await project.list(page_size=1_000)
    assert [task.task_id for task in listed.tasks] == [
        *(f"t-{i}" for i in reversed(range(1_000)) if i % 10 not in (3, 6, 9)),
        "taken",
    ]
    await asyncio.gather(*(project.cancel(task.task_id) for task in listed.tasks))


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_of_none_or_too_many_is_refused_whole(
    project: Project, target: Target, count: int
) -> None:
    refused = await refusal(project.batch([post(target.url("/hook"))] * count))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refused.fields) == ["tasks"]
    assert target.exchanges == []


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Project]:
    """A project on a server that gives it as many tasks as a shared one does."""
    with Server(tmp_path, *LOOPBACK, env={"TASKS_SERVICE__QUEUE__LIMIT": "1000"}) as server:
        async with connected(server.address) as channel:
            yield await register(channel)


async def test_more_tasks_than_a_project_may_have_are_refused_one_by_one(
    limited: Project, target: Target
) -> None:
    later = post(target.url("/hook"), schedule=after(HOUR_MS))
    first = await limited.batch([later] * 1_000)
    assert all(result.HasField("task") for result in first)

    refused = await refusal(limited.subscribe(later))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "QUOTA_TASKS_IN_QUEUE",
    )
    await limited.cancel(first[0].task.task_id)
    results = await limited.batch([later] * 2)
    assert [result.WhichOneof("result") for result in results] == ["task", "error"]
    assert results[1].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_500_tasks_due_in_one_instant_arrive_exactly_once(project: Project, target: Target) -> None:
    due_ms = now_ms() + 1_500
    schedule = task_pb2.Schedule(at=timestamp(due_ms))
    results = await project.batch(
        [post(target.url("/hook?" + str(i)), task_id=f"t-{i}", schedule=schedule) for i in range(500)]
    )
    assert all(result.HasField("task") for result in results)

    async with asyncio.timeout(PATIENCE_S):
        ended = await asyncio.gather(*(project.ended(f"t-{i}") for i in range(500)))

    # Every task has ended after one attempt, so none can come any more.
    assert all((state_name(task), task.attempt_count) == ("COMPLETED", 1) for task, _ in ended)
    arrivals = Counter(exchange.query for exchange in target.exchanges)
    assert arrivals == Counter(str(i) for i in range(500))
    assert min(exchange.received_ms for exchange in target.exchanges) >= due_ms
