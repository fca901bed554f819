"""What a target knows its caller by is shown to full tokens alone, whichever call a token makes."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.token_pb2 import TokenScope
from kuueri_grpc.service.times import to_duration
from kuueri_grpc.service.views import BASIC, FULL, View
from tests.service.edge import Caller, Edge
from tests.service.statuses import refusal

SECRET = "s3cr3t"


def task(task_id: str = "t") -> task_pb2.Task:
    """One that has the secret everywhere where a target may want it."""
    made = task_pb2.Task(task_id=task_id)
    made.http_target.url = f"https://example.com/hook?key={SECRET}"
    made.http_target.headers["authorization"] = f"Bearer {SECRET}"
    made.http_target.query_params["sig"] = SECRET
    made.http_target.body = SECRET.encode()
    made.schedule.delay.CopyFrom(to_duration(3_600_000))
    return made


async def narrow(edge: Edge, owner: Caller, scope: str) -> Caller:
    request = projects_pb.CreateTokenRequest(scope=TokenScope.Value(f"TOKEN_SCOPE_{scope}"))
    made = await edge.projects.CreateToken(request, metadata=owner.metadata)
    return Caller(owner.project_id, made.token)


async def snapshot(edge: Edge, view: View, metadata: Any) -> pb.WatchResponse:
    async for message in edge.tasks.Watch(pb.WatchRequest(task_id="t", view=view), metadata=metadata):
        return message
    raise AssertionError("no message")


Read = Callable[[Edge, View, Any], Awaitable[Any]]
#: Every call whose answer has a task, and that another token than a full one may make.
CALLS: dict[str, tuple[str, Read]] = {
    "GetTask": (
        "READ",
        lambda edge, view, m: edge.tasks.GetTask(pb.GetTaskRequest(task_id="t", view=view), metadata=m),
    ),
    "ListTasks": (
        "READ",
        lambda edge, view, m: edge.tasks.ListTasks(pb.ListTasksRequest(view=view), metadata=m),
    ),
    "Watch": ("READ", snapshot),
    "Subscribe": (
        "SUBSCRIBE",
        lambda edge, view, m: edge.tasks.Subscribe(
            pb.SubscribeRequest(task=task(), request_id="r", view=view), metadata=m
        ),
    ),
    "BatchSubscribe": (
        "SUBSCRIBE",
        lambda edge, view, m: edge.tasks.BatchSubscribe(
            pb.BatchSubscribeRequest(tasks=[task("b")], request_id="b", view=view), metadata=m
        ),
    ),
}


async def subscribe(edge: Edge, owner: Caller) -> None:
    request = pb.SubscribeRequest(task=task(), request_id="r", view=FULL)
    made = await edge.tasks.Subscribe(request, metadata=owner.metadata)
    assert made.task.http_target.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("method", CALLS)
async def test_no_answer_to_another_token_has_the_secrets(edge: Edge, owner: Caller, method: str) -> None:
    await subscribe(edge, owner)
    scope, call = CALLS[method]
    other = await narrow(edge, owner, scope)
    for view in (0, BASIC):
        answer = await call(edge, view, other.metadata)  # type: ignore[arg-type]
        assert SECRET not in str(answer)
        if view == BASIC or method != "BatchSubscribe":
            for shown in ("hook", "authorization", "sig", "url_query_hidden: true", "body_size: 6"):
                assert shown in str(answer)


@pytest.mark.parametrize("method", CALLS)
async def test_everything_takes_a_full_token(edge: Edge, owner: Caller, method: str) -> None:
    await subscribe(edge, owner)
    scope, call = CALLS[method]
    other = await narrow(edge, owner, scope)

    async def answered() -> None:
        await call(edge, FULL, other.metadata)

    refused = await refusal(answered())
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_FULL_NEEDED")
    assert refused.details["ErrorInfo"].metadata == {"scope": scope, "scope_needed": "FULL"}
    assert SECRET in str(await call(edge, FULL, owner.metadata))


async def test_a_call_that_asks_for_more_than_its_token_may_does_nothing(edge: Edge, owner: Caller) -> None:
    other = await narrow(edge, owner, "SUBSCRIBE")
    for method in ("Subscribe", "BatchSubscribe"):
        await refusal(CALLS[method][1](edge, FULL, other.metadata))
    listed = await edge.tasks.ListTasks(pb.ListTasksRequest(), metadata=owner.metadata)
    assert not listed.tasks


async def test_a_repeat_by_another_token_shows_no_more_than_it_sent(edge: Edge, owner: Caller) -> None:
    """With other headers it is another task, and no answer to it has those of the first one."""
    await subscribe(edge, owner)
    other = await narrow(edge, owner, "SUBSCRIBE")
    guess = task()
    guess.http_target.headers["authorization"] = "Bearer guess"
    request = pb.SubscribeRequest(task=guess, request_id="r")
    refused = await refusal(edge.tasks.Subscribe(request, metadata=other.metadata))
    assert refused.reason == "REQUEST_ID_REUSED"
    assert SECRET not in repr((refused.text, refused.details))
