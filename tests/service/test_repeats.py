"""A call that is sent again with its request id does nothing twice: Register, RunTask, an item of a batch."""

import uuid
from typing import Any

import grpc
import pytest
from redis import Redis

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.service.times import to_duration
from kuueri_grpc.service.views import FULL, MINIMAL
from kuueri_grpc.store import keys
from tests.service.edge import PARTITIONS, Caller, Edge
from tests.service.statuses import refusal, unpacked

HOUR_MS = 3_600_000
EMAIL = "lost@example.com"


def task(task_id: str = "", body: bytes = b"{}") -> task_pb2.Task:
    made = task_pb2.Task(task_id=task_id)
    made.http_target.url = "https://example.com/hook"
    made.http_target.body = body
    made.schedule.delay.CopyFrom(to_duration(HOUR_MS))
    return made


class TestRegister:
    async def register(self, edge: Edge, request_id: str, email: str = EMAIL) -> projects_pb.RegisterResponse:
        return await edge.projects.Register(projects_pb.RegisterRequest(email=email, request_id=request_id))

    async def works(self, edge: Edge, made: projects_pb.RegisterResponse) -> bool:
        caller = Caller(made.project.project_id, made.token)
        try:
            await edge.projects.GetProject(projects_pb.GetProjectRequest(), metadata=caller.metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            return False
        return True

    async def test_a_repeated_call_answers_with_credentials_that_work(self, edge: Edge) -> None:
        request_id = uuid.uuid4().hex
        first = await self.register(edge, request_id)
        assert await self.works(edge, first)  # and is remembered
        again = await self.register(edge, request_id, "Lost@Example.com")
        assert again.project == first.project
        assert again.signing_secret != first.signing_secret
        assert await self.works(edge, again)
        assert not await self.works(edge, first)
        caller = Caller(again.project.project_id, again.token)
        listed = await edge.projects.ListTokens(projects_pb.ListTokensRequest(), metadata=caller.metadata)
        assert len(listed.access_tokens) == 1

    async def test_requests_are_signed_with_the_secret_of_the_last_answer_alone(self, edge: Edge) -> None:
        request_id = uuid.uuid4().hex
        await self.register(edge, request_id)
        made = await self.register(edge, request_id)
        caller = Caller(made.project.project_id, made.token)
        at_once = task("now")
        at_once.schedule.Clear()
        await edge.tasks.Subscribe(pb.SubscribeRequest(task=at_once), metadata=caller.metadata)
        (claim,) = await edge.claim(made.project.project_id)
        assert list(claim.signing_secrets) == [made.signing_secret]

    @pytest.mark.parametrize("other", ["", "another-request-id"])
    async def test_another_call_is_refused(self, edge: Edge, other: str) -> None:
        first = await self.register(edge, uuid.uuid4().hex)
        refused = await refusal(self.register(edge, other))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_EXISTS")
        assert await self.works(edge, first)

    async def test_a_call_without_an_id_is_not_repeated(self, edge: Edge) -> None:
        first = await self.register(edge, "")
        assert (await refusal(self.register(edge, ""))).reason == "EMAIL_EXISTS"
        assert await self.works(edge, first)

    async def test_it_is_not_repeated_once_its_answer_was_used_to_rotate(self, edge: Edge) -> None:
        request_id = uuid.uuid4().hex
        first = await self.register(edge, request_id)
        caller = Caller(first.project.project_id, first.token)
        await edge.projects.RotateToken(
            projects_pb.RotateTokenRequest(grace=to_duration(HOUR_MS)), metadata=caller.metadata
        )
        assert (await refusal(self.register(edge, request_id))).reason == "EMAIL_EXISTS"
        assert await self.works(edge, first)

    async def test_it_is_not_repeated_after_ten_minutes(self, edge: Edge, store_url: str) -> None:
        request_id = uuid.uuid4().hex
        first = await self.register(edge, request_id)
        project_id = first.project.project_id
        with Redis.from_url(store_url) as client:
            key = keys.project(keys.partition_of(project_id, PARTITIONS), project_id)
            client.hincrby(key, "create", -600_000)
        assert (await refusal(self.register(edge, request_id))).reason == "EMAIL_EXISTS"
        assert await self.works(edge, first)

    @pytest.mark.parametrize("request_id", ["", "a-request-id-of-some-length"])
    async def test_a_claim_without_a_project_is_taken_over(
        self, edge: Edge, store_url: str, request_id: str
    ) -> None:
        """A server died between its steps: the address is not lost for as long as the claim lasts."""
        with Redis.from_url(store_url) as client:
            client.set(keys.email(EMAIL), "p" * 16, px=60_000)
        if not request_id:
            assert (await refusal(self.register(edge, ""))).reason == "EMAIL_EXISTS"
            return
        made = await self.register(edge, request_id)
        assert made.project.project_id == "p" * 16
        assert await self.works(edge, made)

    async def test_a_project_that_was_deleted_is_not_made_by_a_repeat_under_its_id(self, edge: Edge) -> None:
        request_id = uuid.uuid4().hex
        first = await self.register(edge, request_id)
        caller = Caller(first.project.project_id, first.token)
        await edge.projects.DeleteProject(projects_pb.DeleteProjectRequest(), metadata=caller.metadata)
        again = await self.register(edge, request_id)
        assert again.project.project_id != first.project.project_id

    async def test_an_id_that_can_be_guessed_is_refused(self, edge: Edge) -> None:
        refused = await refusal(self.register(edge, "1"))
        assert list(refused.fields) == ["request_id"]


class TestRunTask:
    async def run(self, edge: Edge, owner: Caller, request_id: str) -> task_pb2.Task:
        request = pb.RunTaskRequest(task_id="t", request_id=request_id, view=MINIMAL)
        return (await edge.tasks.RunTask(request, metadata=owner.metadata)).task

    async def pause(self, edge: Edge, owner: Caller) -> None:
        await edge.tasks.Pause(pb.PauseRequest(task_id="t"), metadata=owner.metadata)

    async def test_a_repeated_call_does_not_bring_what_comes_next_forward(
        self, edge: Edge, owner: Caller
    ) -> None:
        await edge.tasks.Subscribe(pb.SubscribeRequest(task=task("t")), metadata=owner.metadata)
        for request_id in ("r1", "r2"):
            await self.run(edge, owner, request_id)
            await self.pause(edge, owner)
        # Neither the latest call nor the one before it does anything again.
        for request_id in ("r1", "r2"):
            again = await self.run(edge, owner, request_id)
            assert again.state == task_pb2.TASK_STATE_PAUSED
        assert (await self.run(edge, owner, "r3")).state == task_pb2.TASK_STATE_SCHEDULED

    async def test_a_repeated_call_is_answered_in_any_state(self, edge: Edge, owner: Caller) -> None:
        await edge.tasks.Subscribe(pb.SubscribeRequest(task=task("t")), metadata=owner.metadata)
        await self.run(edge, owner, "r")
        await edge.claim(owner.project_id)
        assert (await self.run(edge, owner, "r")).state == task_pb2.TASK_STATE_DISPATCHING
        assert (await refusal(self.run(edge, owner, "s"))).reason == "TASK_RUNNING"
        await edge.tasks.Cancel(pb.CancelRequest(task_id="t"), metadata=owner.metadata)
        assert (await self.run(edge, owner, "r")).state == task_pb2.TASK_STATE_CANCELED

    async def test_sixteen_calls_are_remembered(self, edge: Edge, owner: Caller) -> None:
        await edge.tasks.Subscribe(pb.SubscribeRequest(task=task("t")), metadata=owner.metadata)
        for n in range(17):
            await self.run(edge, owner, f"r{n}")
        await self.pause(edge, owner)
        for n in range(1, 17):
            assert (await self.run(edge, owner, f"r{n}")).state == task_pb2.TASK_STATE_PAUSED
        assert (await self.run(edge, owner, "r0")).state == task_pb2.TASK_STATE_SCHEDULED

    async def test_without_an_id_every_call_is_a_new_one(self, edge: Edge, owner: Caller) -> None:
        await edge.tasks.Subscribe(pb.SubscribeRequest(task=task("t")), metadata=owner.metadata)
        for _ in range(2):
            assert (await self.run(edge, owner, "")).state == task_pb2.TASK_STATE_SCHEDULED
            await self.pause(edge, owner)

    async def test_what_is_no_id_is_refused(self, edge: Edge, owner: Caller) -> None:
        assert list((await refusal(self.run(edge, owner, "a b"))).fields) == ["request_id"]


class TestBatch:
    async def batch(
        self, edge: Edge, owner: Caller, requests: list[pb.SubscribeRequest], **more: str
    ) -> list[pb.BatchSubscribeResult]:
        request = pb.BatchSubscribeRequest(requests=requests, **more)  # type: ignore[arg-type]
        return list((await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)).results)

    async def test_each_item_is_known_by_its_own_id_in_any_place(self, edge: Edge, owner: Caller) -> None:
        items = [pb.SubscribeRequest(task=task(), request_id=f"i{n}") for n in range(3)]
        first = await self.batch(edge, owner, items)
        again = await self.batch(edge, owner, items[::-1][:2])
        assert [r.task.task_id for r in again] == [r.task.task_id for r in first[::-1][:2]]
        alone = await edge.tasks.Subscribe(items[0], metadata=owner.metadata)
        assert alone.task.task_id == first[0].task.task_id
        listed = await edge.tasks.ListTasks(pb.ListTasksRequest(), metadata=owner.metadata)
        assert len(listed.tasks) == 3

    async def test_an_item_without_an_id_is_a_new_task(self, edge: Edge, owner: Caller) -> None:
        items = [pb.SubscribeRequest(task=task()), pb.SubscribeRequest(task=task(), request_id="i")]
        first, again = [await self.batch(edge, owner, items) for _ in range(2)]
        assert [a.task.task_id == b.task.task_id for a, b in zip(first, again, strict=True)] == [False, True]

    async def test_the_same_id_twice_in_a_batch_is_one_task(self, edge: Edge, owner: Caller) -> None:
        items = [pb.SubscribeRequest(task=task(), request_id="i") for _ in range(2)]
        one, two = await self.batch(edge, owner, items)
        assert one.task.task_id == two.task.task_id
        other = [items[0], pb.SubscribeRequest(task=task(body=b"[]"), request_id="i")]
        results = await self.batch(edge, owner, other)
        reused: Any = unpacked(results[1].error)["ErrorInfo"]
        assert reused.reason == "REQUEST_ID_REUSED"

    async def test_what_is_wrong_with_an_item_is_in_its_place(self, edge: Edge, owner: Caller) -> None:
        items = [
            pb.SubscribeRequest(task=task(), request_id="i"),
            pb.SubscribeRequest(request_id="a b", view=FULL),
        ]
        good, bad = await self.batch(edge, owner, items)
        assert good.HasField("task")
        faults: Any = unpacked(bad.error)["BadRequest"]
        assert {fault.field for fault in faults.field_violations} == {
            "requests[1].task",
            "requests[1].request_id",
            "requests[1].view",
        }

    async def test_the_two_forms_do_not_mix(self, edge: Edge, owner: Caller) -> None:
        item = pb.SubscribeRequest(task=task())
        request = pb.BatchSubscribeRequest(requests=[item], tasks=[task()], request_id="b")
        refused = await refusal(edge.tasks.BatchSubscribe(request, metadata=owner.metadata))
        assert set(refused.fields) == {"requests", "request_id"}

    async def test_items_are_bounded_as_tasks_are(self, edge: Edge, owner: Caller) -> None:
        refused = await refusal(self.batch(edge, owner, [pb.SubscribeRequest()] * 1_001))
        assert refused.fields == {"requests": "are 1,001; expected 1 to 1,000"}
