"""A task whose record cannot be read: named as such, and hiding none of the others."""

import grpc
import pytest
from redis import Redis

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.service.times import to_duration
from tests.service.edge import Caller, Edge
from tests.service.statuses import refusal, unpacked

#: What is damaged, in which database -> what is said of it.
DAMAGE = {
    "policy": (2, {"policy": b"not a policy"}),
    "another version": (2, {"policy": b"\x92\x63\x01"}),
    "labels": (2, {"labels": b"{not json"}),
    "state": (1, {"state": b"LIMBO"}),
    "no creation": (1, {"create": b""}),
}

pytestmark = pytest.mark.one_server


def waiting(task_id: str, **more: object) -> task_pb2.Task:
    task = task_pb2.Task(task_id=task_id, labels={"team": "x"}, **more)  # type: ignore[arg-type]
    task.http_target.url = "https://example.com/"
    task.schedule.delay.CopyFrom(to_duration(3_600_000))
    return task


@pytest.fixture(params=DAMAGE)
async def damaged(request: pytest.FixtureRequest, edge: Edge, owner: Caller, store_url: str) -> str:
    """Five tasks, of which t2 is damaged."""
    batch = pb.BatchSubscribeRequest(tasks=[waiting(f"t{n}") for n in range(5)])
    await edge.tasks.BatchSubscribe(batch, metadata=owner.metadata)
    database, fields = DAMAGE[request.param]
    with Redis.from_url(store_url, db=database) as client:
        (key,) = client.keys(f"*:{owner.project_id}/t2")
        client.hset(key, mapping=fields)
    return str(request.param)


async def test_the_others_are_listed(edge: Edge, owner: Caller, damaged: str) -> None:
    whole, ids = await edge.tasks.ListTasks(pb.ListTasksRequest(), metadata=owner.metadata), []
    assert [task.task_id for task in whole.tasks] == ["t4", "t3", "t1", "t0"]
    (unreadable,) = whole.unreadable_tasks
    assert unreadable.task_id == "t2"
    assert unreadable.error.code == grpc.StatusCode.DATA_LOSS.value[0]
    assert unpacked(unreadable.error)["ErrorInfo"].reason == "TASK_UNREADABLE"  # type: ignore[attr-defined]
    for fields in DAMAGE[damaged][1].values():
        assert not fields or fields.decode(errors="replace") not in unreadable.error.message

    # Page by page, none is skipped and none comes twice.
    request = pb.ListTasksRequest(page_size=1)
    while True:
        page = await edge.tasks.ListTasks(request, metadata=owner.metadata)
        ids += [task.task_id for task in page.tasks] + [one.task_id for one in page.unreadable_tasks]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert ids == ["t4", "t3", "t2", "t1", "t0"]


async def test_the_others_are_found_by_their_labels(edge: Edge, owner: Caller, damaged: str) -> None:
    request = pb.ListTasksRequest(labels={"team": "x"})
    found = await edge.tasks.ListTasks(request, metadata=owner.metadata)
    assert [task.task_id for task in found.tasks] == ["t4", "t3", "t1", "t0"]


async def test_it_is_said_of_the_one(edge: Edge, owner: Caller, damaged: str) -> None:
    refused = await refusal(edge.tasks.GetTask(pb.GetTaskRequest(task_id="t2"), metadata=owner.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "TASK_UNREADABLE")
    assert refused.details["ErrorInfo"].metadata == {"task_id": "t2"}
    assert refused.text.startswith("the record of task 't2' cannot be read: ")


async def test_it_is_an_item_of_a_batch_like_others(edge: Edge, owner: Caller, store_url: str) -> None:
    """A repeated request finds the task that it made, and that is damaged by now."""
    request = pb.SubscribeRequest(task=waiting("t0"), request_id="again")
    await edge.tasks.Subscribe(request, metadata=owner.metadata)
    with Redis.from_url(store_url, db=2) as client:
        (key,) = client.keys(f"*:{owner.project_id}/t0")
        client.hset(key, "policy", b"not a policy")

    refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "TASK_UNREADABLE")
