"""What a project may have, which the operator sets, and nobody else."""

from collections.abc import AsyncIterator

import grpc
import pytest

from kuueri_grpc.pb import project_service_pb2 as pb
from kuueri_grpc.pb import task_pb2, task_service_pb2
from kuueri_grpc.service.times import to_duration
from tests.service.edge import QUEUE_LIMIT, Caller, Edge, serving
from tests.service.statuses import Refusal, refusal

ADMIN = Caller("", "an-admin-token-of-this-server")


@pytest.fixture
async def guarded(store_url: str) -> AsyncIterator[Edge]:
    """A server that has an admin token."""
    async with serving(store_url, admin_token=ADMIN.token) as edge:
        yield edge


async def register(edge: Edge, email: str) -> Caller:
    made = await edge.projects.Register(pb.RegisterRequest(email=email), metadata=ADMIN.metadata)
    return Caller(made.project.project_id, made.token)


@pytest.fixture
async def owner(guarded: Edge) -> Caller:
    return await register(guarded, "owner@example.com")


def limits(project: Caller, limit: int | None) -> pb.SetProjectLimitsRequest:
    return pb.SetProjectLimitsRequest(project_id=project.project_id, task_in_queue_limit=limit)


async def limit_of(edge: Edge, caller: Caller) -> int:
    answer = await edge.projects.GetProject(pb.GetProjectRequest(), metadata=caller.metadata)
    return answer.project.task_in_queue_limit


def batch(count: int) -> task_service_pb2.BatchSubscribeRequest:
    task = task_pb2.Task(http_target=task_pb2.HttpTarget(url="https://example.com/"))
    task.schedule.delay.CopyFrom(to_duration(3_600_000))
    return task_service_pb2.BatchSubscribeRequest(tasks=[task] * count)


async def accepted(edge: Edge, caller: Caller, count: int) -> int:
    """Subscribe so many; return how many were accepted."""
    answer = await edge.tasks.BatchSubscribe(batch(count), metadata=caller.metadata)
    return sum(result.HasField("task") for result in answer.results)


async def test_the_operator_sets_them_for_one_project(guarded: Edge, owner: Caller) -> None:
    other = await register(guarded, "other@example.com")

    answer = await guarded.projects.SetProjectLimits(limits(owner, 2), metadata=ADMIN.metadata)

    assert (answer.project.project_id, answer.project.email) == (owner.project_id, "owner@example.com")
    assert answer.project.task_in_queue_limit == 2
    assert await accepted(guarded, owner, 3) == 2
    assert await accepted(guarded, other, 3) == 3
    assert await limit_of(guarded, other) == QUEUE_LIMIT


async def test_fewer_than_there_are_end_none(guarded: Edge, owner: Caller) -> None:
    assert await accepted(guarded, owner, 3) == 3
    answer = await guarded.projects.SetProjectLimits(limits(owner, 0), metadata=ADMIN.metadata)
    assert (answer.project.task_in_queue, answer.project.task_in_queue_limit) == (3, 0)
    assert await accepted(guarded, owner, 1) == 0

    await guarded.projects.SetProjectLimits(limits(owner, None), metadata=ADMIN.metadata)

    assert await limit_of(guarded, owner) == QUEUE_LIMIT
    assert await accepted(guarded, owner, 1) == 1


async def test_a_project_does_not_set_its_own(guarded: Edge, owner: Caller) -> None:
    for metadata, reason in ((owner.metadata, "TOKEN_INVALID"), ((), "TOKEN_MISSING")):
        refused = await refusal(
            guarded.projects.SetProjectLimits(limits(owner, 1_000_000), metadata=metadata)
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        assert "SetProjectLimits" in refused.text
        assert owner.token not in refused.text
    assert await limit_of(guarded, owner) == QUEUE_LIMIT


async def test_where_there_is_no_admin_token_nobody_does(edge: Edge) -> None:
    owner = await edge.register("owner@example.com")
    for metadata in (owner.metadata, ADMIN.metadata, ()):
        refused = await refusal(edge.projects.SetProjectLimits(limits(owner, 1), metadata=metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ADMIN_TOKEN_NOT_SET")
        assert "TASKS_ADMIN_TOKEN" in refused.text
    assert await limit_of(edge, owner) == QUEUE_LIMIT


async def refused_for(edge: Edge, request: pb.SetProjectLimitsRequest) -> Refusal:
    return await refusal(edge.projects.SetProjectLimits(request, metadata=ADMIN.metadata))


async def test_says_what_is_wrong_with_them(guarded: Edge) -> None:
    refused = await refused_for(guarded, pb.SetProjectLimitsRequest(task_in_queue_limit=-1))
    assert refused.fields == {
        "project_id": "is required; expected 1 to 128 characters of [A-Za-z0-9_-]",
        "task_in_queue_limit": "is -1; expected 0 or more, or unset",
    }
    refused = await refused_for(guarded, pb.SetProjectLimitsRequest(project_id="nobodys"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
