"""TaskService over a channel: what each call answers, and what it refuses."""

import grpc
import pytest

from kuueri_grpc.pb import task_pb2, timeline_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.times import to_duration
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal, unpacked

URL = "https://example.com/hook"
HOUR_MS = 3_600_000


def waiting(task_id: str = "", **fields: object) -> task_pb2.Task:
    """A task that is due in an hour."""
    return task_pb2.Task(
        task_id=task_id,
        http_target=task_pb2.HttpTarget(url=URL, body=b"{}"),
        schedule=task_pb2.Schedule(delay=to_duration(HOUR_MS)),
        **fields,  # type: ignore[arg-type]
    )


async def subscribe(edge: Edge, owner: Caller, task: task_pb2.Task, request_id: str = "") -> task_pb2.Task:
    request = pb.SubscribeRequest(task=task, request_id=request_id)
    return (await edge.tasks.Subscribe(request, metadata=owner.metadata)).task


async def task_ids(edge: Edge, owner: Caller, request: pb.ListTasksRequest) -> list[str]:
    """The ids on all pages of a list."""
    found = []
    while True:
        page = await edge.tasks.ListTasks(request, metadata=owner.metadata)
        found += [task.task_id for task in page.tasks]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


class TestSubscribe:
    async def test_answers_the_task_with_its_defaults(self, edge: Edge, owner: Caller) -> None:
        task = await subscribe(edge, owner, waiting("a", labels={"team": "billing"}))
        assert (task.task_id, task.queue, task.state) == ("a", "default", task_pb2.TASK_STATE_SCHEDULED)
        assert task.http_target.http_method == task_pb2.HTTP_METHOD_POST
        assert task.attempt_timeout.ToSeconds() == 300
        assert dict(task.labels) == {"team": "billing"}
        assert task.schedule_time.ToMilliseconds() == task.create_time.ToMilliseconds() + HOUR_MS
        kept = await edge.tasks.GetTask(pb.GetTaskRequest(task_id="a"), metadata=owner.metadata)
        assert kept.task == task

    async def test_makes_ids_in_the_order_of_creation(self, edge: Edge, owner: Caller) -> None:
        made = [(await subscribe(edge, owner, waiting())).task_id for _ in range(3)]
        assert len(set(made)) == 3
        assert await task_ids(edge, owner, pb.ListTasksRequest()) == made[::-1]

    async def test_a_repeated_request_id_answers_the_first_task(self, edge: Edge, owner: Caller) -> None:
        first = await subscribe(edge, owner, waiting(), "r-1")
        assert await subscribe(edge, owner, waiting(), "r-1") == first
        assert await task_ids(edge, owner, pb.ListTasksRequest()) == [first.task_id]

    async def test_refuses_a_request_id_with_another_task(self, edge: Edge, owner: Caller) -> None:
        await subscribe(edge, owner, waiting("a"), "r-1")
        request = pb.SubscribeRequest(task=waiting("b"), request_id="r-1")
        refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert refused.details["ErrorInfo"].metadata == {"request_id": "r-1", "task_id": "a"}

    async def test_refuses_an_id_in_use(self, edge: Edge, owner: Caller) -> None:
        await subscribe(edge, owner, waiting("a"))
        request = pb.SubscribeRequest(task=waiting("a"))
        refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS")
        assert refused.details["ResourceInfo"].resource_name == "a"

    async def test_names_every_bad_field_at_once(self, edge: Edge, owner: Caller) -> None:
        bad = task_pb2.Task(queue="a b", http_target=task_pb2.HttpTarget(url="ftp://example.com"))
        bad.retry_policy.max_retries = -1
        request = pb.SubscribeRequest(task=bad, request_id="r 1")
        refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(refused.fields) == [
            "task.queue",
            "task.http_target.url",
            "task.retry_policy.max_retries",
            "request_id",
        ]

    async def test_thousands_of_bad_fields_still_reach_the_client(self, edge: Edge, owner: Caller) -> None:
        bad = waiting()
        for i in range(3_000):
            bad.http_target.headers[f"webhook-{i:04}-{'x' * 10}"] = ""
        request = pb.SubscribeRequest(task=bad)
        refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
        assert refused.text.startswith("3,000 fields are not valid: ")
        assert "more; correct the ones above first" in refused.fields[""]

    async def test_refuses_more_than_the_quota_and_takes_again_when_a_task_has_ended(
        self, store_url: str
    ) -> None:
        async with serving(store_url, queue_limit=1) as edge:
            owner = await edge.register("owner@example.com")
            await subscribe(edge, owner, waiting("a"))
            request = pb.SubscribeRequest(task=waiting("b"))
            refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
            assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refused.reason == "QUOTA_TASKS_IN_QUEUE"
            (quota,) = refused.details["QuotaFailure"].violations
            assert quota.subject == f"project:{owner.project_id}"
            assert refused.details["ErrorInfo"].metadata["limit"] == "1"
            await edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=owner.metadata)
            await subscribe(edge, owner, waiting("b"))


class TestBatchSubscribe:
    async def test_gives_a_result_per_task_in_order(self, edge: Edge, owner: Caller) -> None:
        await subscribe(edge, owner, waiting("taken"))
        tasks = [waiting("a"), waiting("b", queue="not good"), waiting("taken"), waiting("c")]
        response = await edge.tasks.BatchSubscribe(
            pb.BatchSubscribeRequest(tasks=tasks), metadata=owner.metadata
        )
        assert [result.WhichOneof("result") for result in response.results] == [
            "task",
            "error",
            "error",
            "task",
        ]
        _, invalid, taken, _ = (result.error for result in response.results)
        assert invalid.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        (violation,) = unpacked(invalid)["BadRequest"].field_violations  # type: ignore[attr-defined]
        assert violation.field == "tasks[1].queue"
        assert taken.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
        assert unpacked(taken)["ErrorInfo"].reason == "TASK_EXISTS"  # type: ignore[attr-defined]
        assert await task_ids(edge, owner, pb.ListTasksRequest()) == ["c", "a", "taken"]

    async def test_refuses_the_second_task_of_an_id(self, edge: Edge, owner: Caller) -> None:
        tasks = [waiting("a", queue="one"), waiting("a", queue="two")]
        response = await edge.tasks.BatchSubscribe(
            pb.BatchSubscribeRequest(tasks=tasks), metadata=owner.metadata
        )
        first, second = response.results
        assert first.task.queue == "one"
        assert unpacked(second.error)["ErrorInfo"].reason == "TASK_EXISTS"  # type: ignore[attr-defined]

    async def test_answers_a_batch_of_bad_tasks_alone(self, edge: Edge, owner: Caller) -> None:
        request = pb.BatchSubscribeRequest(tasks=[task_pb2.Task()] * 3)
        response = await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)
        assert [result.WhichOneof("result") for result in response.results] == ["error"] * 3

    @pytest.mark.parametrize(("count", "came"), [(0, "0"), (1_001, "1,001")])
    async def test_refuses_a_number_outside_the_limits(
        self, edge: Edge, owner: Caller, count: int, came: str
    ) -> None:
        request = pb.BatchSubscribeRequest(tasks=[waiting()] * count)
        refused = await refusal(edge.tasks.BatchSubscribe(request, metadata=owner.metadata))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields == {"tasks": f"are {came}; expected 1 to 1,000"}

    async def test_accepts_the_largest_batch(self, edge: Edge, owner: Caller) -> None:
        request = pb.BatchSubscribeRequest(tasks=[waiting() for _ in range(1_000)])
        response = await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)
        assert len({result.task.task_id for result in response.results}) == 1_000


class TestListTasks:
    async def test_pages_through_all_newest_first(self, edge: Edge, owner: Caller) -> None:
        for i in range(5):
            await subscribe(edge, owner, waiting(f"t-{i}"))
        request = pb.ListTasksRequest(page_size=2)
        assert await task_ids(edge, owner, request) == ["t-4", "t-3", "t-2", "t-1", "t-0"]

    async def test_filters_by_state_queue_and_labels(self, edge: Edge, owner: Caller) -> None:
        await subscribe(edge, owner, waiting("a", queue="orders", labels={"team": "x", "env": "1"}))
        await subscribe(edge, owner, waiting("b", queue="orders", labels={"team": "y"}))
        await subscribe(edge, owner, waiting("c", labels={"team": "x"}))
        await edge.tasks.Pause(pb.PauseRequest(task_id="c"), metadata=owner.metadata)
        assert await task_ids(edge, owner, pb.ListTasksRequest(queue="orders")) == ["b", "a"]
        assert await task_ids(edge, owner, pb.ListTasksRequest(labels={"team": "x"})) == ["c", "a"]
        assert await task_ids(edge, owner, pb.ListTasksRequest(labels={"team": "x", "env": "1"})) == ["a"]
        paused = pb.ListTasksRequest(state=task_pb2.TASK_STATE_PAUSED)
        assert await task_ids(edge, owner, paused) == ["c"]
        assert await task_ids(edge, owner, pb.ListTasksRequest(queue="orders", labels={"team": "z"})) == []

    async def test_cuts_a_page_at_what_a_client_takes(self, edge: Edge, owner: Caller) -> None:
        for i in range(7):
            task = waiting(f"t-{i}")
            task.http_target.body = bytes(1_000_000)
            await subscribe(edge, owner, task)
        first = await edge.tasks.ListTasks(pb.ListTasksRequest(), metadata=owner.metadata)
        assert 0 < len(first.tasks) < 7
        assert await task_ids(edge, owner, pb.ListTasksRequest()) == [f"t-{i}" for i in reversed(range(7))]

    async def test_refuses_a_token_of_other_filters(self, edge: Edge, owner: Caller) -> None:
        for i in range(2):
            await subscribe(edge, owner, waiting(f"t-{i}"))
        page = await edge.tasks.ListTasks(pb.ListTasksRequest(page_size=1), metadata=owner.metadata)
        request = pb.ListTasksRequest(page_token=page.next_page_token, queue="orders")
        refused = await refusal(edge.tasks.ListTasks(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
        assert list(refused.fields) == ["page_token"]

    async def test_refuses_a_token_of_another_project(
        self, edge: Edge, owner: Caller, stranger: Caller
    ) -> None:
        for i in range(2):
            await subscribe(edge, owner, waiting(f"t-{i}"))
        page = await edge.tasks.ListTasks(pb.ListTasksRequest(page_size=1), metadata=owner.metadata)
        request = pb.ListTasksRequest(page_token=page.next_page_token)
        refused = await refusal(edge.tasks.ListTasks(request, metadata=stranger.metadata))
        assert refused.reason == "PAGE_TOKEN_INVALID"


class TestCommands:
    async def test_pause_resume_run_cancel_purge(self, edge: Edge, owner: Caller) -> None:
        created = await subscribe(edge, owner, waiting("a"))
        metadata = owner.metadata
        paused = (await edge.tasks.Pause(pb.PauseRequest(task_id="a"), metadata=metadata)).task
        assert paused.state == task_pb2.TASK_STATE_PAUSED
        assert not paused.HasField("schedule_time")
        resumed = (await edge.tasks.Resume(pb.ResumeRequest(task_id="a"), metadata=metadata)).task
        assert resumed.state == task_pb2.TASK_STATE_SCHEDULED
        assert resumed.schedule_time.ToMilliseconds() >= created.schedule_time.ToMilliseconds()
        run = (await edge.tasks.RunTask(pb.RunTaskRequest(task_id="a"), metadata=metadata)).task
        assert run.schedule_time.ToMilliseconds() < created.schedule_time.ToMilliseconds()
        canceled = (await edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=metadata)).task
        assert canceled.state == task_pb2.TASK_STATE_CANCELED
        assert canceled.HasField("end_time")
        again = (await edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=metadata)).task
        assert again == canceled
        await edge.tasks.Purge(pb.PurgeRequest(task_id="a"), metadata=metadata)
        refused = await refusal(edge.tasks.GetTask(pb.GetTaskRequest(task_id="a"), metadata=metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    async def test_refuses_commands_on_a_task_that_has_ended(self, edge: Edge, owner: Caller) -> None:
        await subscribe(edge, owner, waiting("a"))
        await edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=owner.metadata)
        for call in (
            edge.tasks.Pause(pb.PauseRequest(task_id="a"), metadata=owner.metadata),
            edge.tasks.Resume(pb.ResumeRequest(task_id="a"), metadata=owner.metadata),
            edge.tasks.RunTask(pb.RunTaskRequest(task_id="a"), metadata=owner.metadata),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_ENDED")
            assert refused.details["ErrorInfo"].metadata == {"task_id": "a", "state": "CANCELED"}

    async def test_refuses_to_purge_a_task_that_waits_or_runs(self, edge: Edge, owner: Caller) -> None:
        await subscribe(edge, owner, waiting("a"))
        purge = pb.PurgeRequest(task_id="a")
        refused = await refusal(edge.tasks.Purge(purge, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_RUNNING")
        await edge.tasks.RunTask(pb.RunTaskRequest(task_id="a"), metadata=owner.metadata)
        assert len(await edge.claim(owner.project_id)) == 1
        refused = await refusal(edge.tasks.Purge(purge, metadata=owner.metadata))
        assert refused.reason == "TASK_RUNNING"
        assert refused.details["ErrorInfo"].metadata["state"] == "DISPATCHING"
        refused = await refusal(edge.tasks.RunTask(pb.RunTaskRequest(task_id="a"), metadata=owner.metadata))
        assert refused.reason == "TASK_RUNNING"


class TestTimeline:
    async def make_events(self, edge: Edge, owner: Caller, task_id: str = "a") -> None:
        """SUBSCRIBED, then PAUSED and RESUMED twice."""
        await subscribe(edge, owner, waiting(task_id))
        for _ in range(2):
            await edge.tasks.Pause(pb.PauseRequest(task_id=task_id), metadata=owner.metadata)
            await edge.tasks.Resume(pb.ResumeRequest(task_id=task_id), metadata=owner.metadata)

    async def test_reads_all_events_the_oldest_first(self, edge: Edge, owner: Caller) -> None:
        await self.make_events(edge, owner)
        response = await edge.tasks.GetTimeline(pb.GetTimelineRequest(task_id="a"), metadata=owner.metadata)
        assert [event.sequence for event in response.events] == [1, 2, 3, 4, 5]
        assert [timeline_pb2.EventType.Name(event.type) for event in response.events] == [
            "EVENT_TYPE_SUBSCRIBED",
            "EVENT_TYPE_PAUSED",
            "EVENT_TYPE_RESUMED",
            "EVENT_TYPE_PAUSED",
            "EVENT_TYPE_RESUMED",
        ]
        assert response.events[0].description == "Task accepted"
        assert not response.next_page_token

    @pytest.mark.parametrize("page_size", [1, 2, 5])
    async def test_pages_without_gap_or_repeat(self, edge: Edge, owner: Caller, page_size: int) -> None:
        await self.make_events(edge, owner)
        request = pb.GetTimelineRequest(task_id="a", page_size=page_size)
        seen: list[int] = []
        while True:
            page = await edge.tasks.GetTimeline(request, metadata=owner.metadata)
            seen += [event.sequence for event in page.events]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert seen == [1, 2, 3, 4, 5]

    async def test_refuses_a_token_of_another_task(self, edge: Edge, owner: Caller) -> None:
        await self.make_events(edge, owner)
        await subscribe(edge, owner, waiting("b"))
        page = await edge.tasks.GetTimeline(
            pb.GetTimelineRequest(task_id="a", page_size=1), metadata=owner.metadata
        )
        request = pb.GetTimelineRequest(task_id="b", page_token=page.next_page_token)
        refused = await refusal(edge.tasks.GetTimeline(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")

    @pytest.mark.parametrize("events_of_the_new_task", [1, 5])
    async def test_refuses_a_token_of_an_earlier_task_with_the_same_id(
        self, edge: Edge, owner: Caller, events_of_the_new_task: int
    ) -> None:
        await self.make_events(edge, owner)
        page = await edge.tasks.GetTimeline(
            pb.GetTimelineRequest(task_id="a", page_size=3), metadata=owner.metadata
        )
        await edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=owner.metadata)
        await edge.tasks.Purge(pb.PurgeRequest(task_id="a"), metadata=owner.metadata)
        if events_of_the_new_task == 1:
            await subscribe(edge, owner, waiting("a"))
        else:
            await self.make_events(edge, owner)
        request = pb.GetTimelineRequest(task_id="a", page_token=page.next_page_token)
        refused = await refusal(edge.tasks.GetTimeline(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


class TestTenants:
    async def test_a_task_of_another_project_is_not_found(
        self, edge: Edge, owner: Caller, stranger: Caller
    ) -> None:
        await subscribe(edge, owner, waiting("a"))
        metadata = stranger.metadata
        for call in (
            edge.tasks.GetTask(pb.GetTaskRequest(task_id="a"), metadata=metadata),
            edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=metadata),
            edge.tasks.Pause(pb.PauseRequest(task_id="a"), metadata=metadata),
            edge.tasks.Resume(pb.ResumeRequest(task_id="a"), metadata=metadata),
            edge.tasks.Purge(pb.PurgeRequest(task_id="a"), metadata=metadata),
            edge.tasks.RunTask(pb.RunTaskRequest(task_id="a"), metadata=metadata),
            edge.tasks.GetTimeline(pb.GetTimelineRequest(task_id="a"), metadata=metadata),
            aiter(edge.tasks.Watch(pb.WatchRequest(task_id="a"), metadata=metadata)),
        ):
            refused = await refusal(call)
            assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
            assert refused.details["ResourceInfo"].resource_name == "a"
        assert await task_ids(edge, stranger, pb.ListTasksRequest()) == []
        kept = await edge.tasks.GetTask(pb.GetTaskRequest(task_id="a"), metadata=owner.metadata)
        assert kept.task.state == task_pb2.TASK_STATE_SCHEDULED

    async def test_the_same_task_id_is_free_in_another_project(
        self, edge: Edge, owner: Caller, stranger: Caller
    ) -> None:
        await subscribe(edge, owner, waiting("a"))
        assert (await subscribe(edge, stranger, waiting("a"))).task_id == "a"


async def test_limits_are_the_operators(store_url: str) -> None:
    async with serving(store_url, Limits(max_body_bytes=1)) as edge:
        owner = await edge.register("owner@example.com")
        request = pb.SubscribeRequest(task=waiting())
        refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
        assert refused.fields == {"task.http_target.body": "has 2 bytes; at most 1 are allowed"}
