"""No answer is larger than what a client takes by default, whatever the limits allow a task to be."""

import json
from collections.abc import Awaitable, Callable, Sequence

import pytest
from google.protobuf.message import Message
from redis import Redis

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import server_service_pb2 as server_pb
from kuueri_grpc.pb import task_pb2, token_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.times import to_duration
from kuueri_grpc.service.views import BASIC, FULL, MINIMAL, View
from kuueri_grpc.service.wire import WireLimits
from kuueri_grpc.store import keys
from tests.service.edge import PARTITIONS, Caller, Edge, serving

#: `grpc.max_receive_message_length` where it is not set; the channels of these tests do not set it.
CLIENT_TAKES = 4_194_304
BODY_BYTES = 8_000_000
LIMITS = Limits(max_body_bytes=BODY_BYTES)
ADMIN = "an admin token of some length"
WIDE = "\U0001f600"  # four bytes

pytestmark = pytest.mark.one_server


def largest(task_id: str, *, body: int = BODY_BYTES, headers: int = 81_920) -> task_pb2.Task:
    """The largest task that the limits allow, due in an hour."""
    task = task_pb2.Task(task_id=task_id.ljust(128, "-"), queue="q" * 128)
    task.http_target.url = "https://example.com/" + "x" * 2_000
    task.http_target.body = bytes(body)
    for i in range(headers // 1_024):
        task.http_target.headers[f"x-{i:04}"] = "v" * 1_018
    for i in range(64):
        task.labels[f"{i:02}".ljust(63, "k")] = WIDE * 255
    task.retry_policy.retryable_status_codes.extend([*range(100, 200), *range(300, 600)])
    task.schedule.delay.CopyFrom(to_duration(3_600_000))
    return task


def smaller(task_id: str, header: int = 9_000) -> task_pb2.Task:
    """One with a header; a batch of them fits into a request, and its echo not into an answer."""
    task = task_pb2.Task(task_id=task_id)
    task.http_target.url = "https://example.com/"
    task.http_target.headers["x-a"] = "v" * header
    task.schedule.delay.CopyFrom(to_duration(3_600_000))
    return task


def faulty() -> task_pb2.Task:
    """One with more faults than an error names."""
    task = smaller("a b" * 40, 10)
    for i in range(150):
        task.http_target.headers[f"webhook-{i:03}".ljust(64, "-")] = ""
    return task


class Calls:
    """Each RPC, called so that its answer is as large as it gets."""

    def __init__(self, edge: Edge, owner: Caller, store_url: str) -> None:
        self._edge = edge
        self._owner = owner
        self._metadata = owner.metadata
        self._store_url = store_url

    async def subscribed(self, name: str) -> str:
        """Subscribe the largest task; return its id."""
        request = pb.SubscribeRequest(task=largest(name), view=MINIMAL)
        return (await self._edge.tasks.Subscribe(request, metadata=self._metadata)).task.task_id

    async def Subscribe(self) -> Sequence[Message]:  # noqa: N802  the names are those of the contract
        request = pb.SubscribeRequest(task=largest("subscribed"), view=FULL)
        return [await self._edge.tasks.Subscribe(request, metadata=self._metadata)]

    async def BatchSubscribe(self) -> Sequence[Message]:  # noqa: N802
        batches = [
            [smaller(f"b{i}".ljust(128, "-"), 9_000) for i in range(500)],
            [faulty() for _ in range(1_000)],
            [largest(f"l{i}") for i in range(2)],
            [largest(f"h{i}", body=0) for i in range(60)],
            [smaller("same") for i in range(1_000)],
        ]
        return [
            await self._edge.tasks.BatchSubscribe(
                pb.BatchSubscribeRequest(tasks=tasks, view=view), metadata=self._metadata
            )
            for tasks in batches
            for view in (FULL, MINIMAL)
        ]

    async def GetTask(self) -> Sequence[Message]:  # noqa: N802
        request = pb.GetTaskRequest(task_id=await self.subscribed("got"), view=FULL)
        return [await self._edge.tasks.GetTask(request, metadata=self._metadata)]

    async def ListTasks(self) -> Sequence[Message]:  # noqa: N802
        for i in range(2):
            await self.subscribed(f"listed{i}")
        request, pages, seen = (
            pb.ListTasksRequest(page_size=1_000, view=FULL),
            list[pb.ListTasksResponse](),
            0,
        )
        while True:
            pages.append(await self._edge.tasks.ListTasks(request, metadata=self._metadata))
            seen += len(pages[-1].tasks)
            if not pages[-1].next_page_token:
                assert seen >= 2
                return pages
            request.page_token = pages[-1].next_page_token

    async def Cancel(self) -> Sequence[Message]:  # noqa: N802
        request = pb.CancelRequest(task_id=await self.subscribed("canceled"), view=FULL)
        return [await self._edge.tasks.Cancel(request, metadata=self._metadata)]

    async def Pause(self) -> Sequence[Message]:  # noqa: N802
        request = pb.PauseRequest(task_id=await self.subscribed("paused"), view=FULL)
        return [await self._edge.tasks.Pause(request, metadata=self._metadata)]

    async def Resume(self) -> Sequence[Message]:  # noqa: N802
        request = pb.ResumeRequest(task_id=await self.subscribed("resumed"), view=FULL)
        return [await self._edge.tasks.Resume(request, metadata=self._metadata)]

    async def RunTask(self) -> Sequence[Message]:  # noqa: N802
        request = pb.RunTaskRequest(task_id=await self.subscribed("run"), view=FULL)
        return [await self._edge.tasks.RunTask(request, metadata=self._metadata)]

    async def Purge(self) -> Sequence[Message]:  # noqa: N802
        task_id = await self.subscribed("purged")
        await self._edge.tasks.Cancel(
            pb.CancelRequest(task_id=task_id, view=MINIMAL), metadata=self._metadata
        )
        return [await self._edge.tasks.Purge(pb.PurgeRequest(task_id=task_id), metadata=self._metadata)]

    def _write_events(self, task_id: str, count: int, detail: str) -> None:
        """Put events on a task's timeline with more to say than any that the server writes."""
        name = f"{self._owner.project_id}/{task_id}"
        with Redis.from_url(self._store_url, db=1) as client:
            (key,) = client.keys(f"*:task:{name}")
            client.hset(key, "seq", count)
        line = {"t": 1_700_000_000_000, "e": "ERRORED", "a": 1, "r": "DNS", "d": detail}
        with Redis.from_url(self._store_url, db=3) as client:
            timeline = key.replace(b":task:", b":timeline:")
            client.rpush(timeline, *(json.dumps({"n": n, **line}) for n in range(1, count + 1)))

    async def GetTimeline(self) -> Sequence[Message]:  # noqa: N802
        task_id = await self.subscribed("told")
        self._write_events(task_id, 1_000, "x" * 6_000)
        request, pages = (
            pb.GetTimelineRequest(task_id=task_id, page_size=1_000),
            list[pb.GetTimelineResponse](),
        )
        while True:
            pages.append(await self._edge.tasks.GetTimeline(request, metadata=self._metadata))
            if not pages[-1].next_page_token:
                break
            request.page_token = pages[-1].next_page_token
        assert [event.sequence for page in pages for event in page.events] == list(range(1, 1_001))
        assert len(pages) > 1
        return pages

    async def Watch(self) -> Sequence[Message]:  # noqa: N802
        messages: list[pb.WatchResponse] = []
        request = pb.WatchRequest(task_id=await self.subscribed("watched"), view=FULL)
        async for message in self._edge.tasks.Watch(request, metadata=self._metadata):
            messages.append(message)
            if message.HasField("synced"):
                break
        assert messages[0].HasField("snapshot")
        return messages

    async def Register(self) -> Sequence[Message]:  # noqa: N802
        email = f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}"
        request = projects_pb.RegisterRequest(email=email)
        return [await self._edge.projects.Register(request, metadata=admin())]

    async def GetProject(self) -> Sequence[Message]:  # noqa: N802
        request = projects_pb.GetProjectRequest()
        return [await self._edge.projects.GetProject(request, metadata=self._metadata)]

    async def CreateToken(self) -> Sequence[Message]:  # noqa: N802
        request = projects_pb.CreateTokenRequest(scope=token_pb2.TOKEN_SCOPE_READ, display_name=WIDE * 64)
        return [await self._edge.projects.CreateToken(request, metadata=self._metadata)]

    async def ListTokens(self) -> Sequence[Message]:  # noqa: N802
        for _ in range(99):
            await self.CreateToken()
        request = projects_pb.ListTokensRequest()
        answer = await self._edge.projects.ListTokens(request, metadata=self._metadata)
        assert len(answer.access_tokens) == 100
        return [answer]

    async def RevokeToken(self) -> Sequence[Message]:  # noqa: N802
        (made,) = await self.CreateToken()
        assert isinstance(made, projects_pb.CreateTokenResponse)
        request = projects_pb.RevokeTokenRequest(key_id=made.access_token.key_id)
        return [await self._edge.projects.RevokeToken(request, metadata=self._metadata)]

    async def RotateToken(self) -> Sequence[Message]:  # noqa: N802
        request = projects_pb.RotateTokenRequest(grace=to_duration(60_000))
        return [await self._edge.projects.RotateToken(request, metadata=self._metadata)]

    async def RotateSigningSecret(self) -> Sequence[Message]:  # noqa: N802
        request = projects_pb.RotateSigningSecretRequest()
        return [await self._edge.projects.RotateSigningSecret(request, metadata=self._metadata)]

    async def SetProjectLimits(self) -> Sequence[Message]:  # noqa: N802
        request = projects_pb.SetProjectLimitsRequest(project_id=self._owner.project_id)
        return [await self._edge.projects.SetProjectLimits(request, metadata=admin())]

    async def ListProjects(self) -> Sequence[Message]:  # noqa: N802
        store = Redis.from_url(self._store_url)
        ids = [f"p{i:015}" for i in range(1_100)]
        with store, store.pipeline() as pipe:
            for project_id in ids:
                partition = keys.partition_of(project_id, PARTITIONS)
                facts = ("id", project_id, "email", WIDE * 254, "create", "1", "taskInQueue", "2147483647")
                pipe.hset(keys.project(partition, project_id), items=list(facts))
                pipe.zadd(f"{{{partition}}}:projects", {project_id: 0})
            pipe.execute()
        request = projects_pb.ListProjectsRequest(page_size=1_000)
        page = await self._edge.projects.ListProjects(request, metadata=admin())
        assert len(page.projects) == 1_000
        return [page]

    async def GetServerInfo(self) -> Sequence[Message]:  # noqa: N802
        return [await self._edge.info.GetServerInfo(server_pb.GetServerInfoRequest())]

    async def DeleteProject(self) -> Sequence[Message]:  # noqa: N802
        await self.subscribed("deleted")
        request = projects_pb.DeleteProjectRequest()
        return [await self._edge.projects.DeleteProject(request, metadata=self._metadata)]


def admin() -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {ADMIN}"),)


METHODS = [
    method.name
    for file in (pb.DESCRIPTOR, projects_pb.DESCRIPTOR, server_pb.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize("method", METHODS)
async def test_no_answer_is_larger_than_a_client_takes(store_url: str, method: str) -> None:
    """Every RPC has its case here; one that has none fails."""
    async with serving(store_url, LIMITS, WireLimits(max_message_bytes=1 << 24), admin_token=ADMIN) as edge:
        registered = await edge.projects.Register(
            projects_pb.RegisterRequest(email="owner@example.com"), metadata=admin()
        )
        owner = Caller(registered.project.project_id, registered.token)
        call: Callable[[], Awaitable[Sequence[Message]]] = getattr(Calls(edge, owner, store_url), method)
        answers = await call()
        assert answers
        assert max(answer.ByteSize() for answer in answers) <= CLIENT_TAKES


class TestViews:
    """What of a task is left out is visible, and what is asked for is there where it fits."""

    async def test_each_read_has_each_view(self, edge: Edge, owner: Caller) -> None:
        task, metadata = smaller("a", 10), owner.metadata
        task.http_target.body = b"12345"
        tasks = edge.tasks

        async def snapshot(view: View) -> task_pb2.Task:
            request = pb.WatchRequest(task_id="a", view=view)
            async for message in tasks.Watch(request, metadata=metadata):
                return message.snapshot
            raise AssertionError("no message")

        async def listed(view: View) -> task_pb2.Task:
            (only,) = (await tasks.ListTasks(pb.ListTasksRequest(view=view), metadata=metadata)).tasks
            return only

        async def one(method: str, view: View) -> task_pb2.Task:
            request = getattr(pb, f"{method}Request")(task_id="a", view=view)
            found: task_pb2.Task = (await getattr(tasks, method)(request, metadata=metadata)).task
            return found

        for asked, given in [(MINIMAL, MINIMAL), (BASIC, BASIC), (FULL, FULL), (0, BASIC)]:
            request = pb.SubscribeRequest(task=task, request_id="r", view=asked)  # type: ignore[arg-type]
            view: View = asked  # type: ignore[assignment]
            found = [
                (await tasks.Subscribe(request, metadata=metadata)).task,
                await snapshot(view),
                await listed(view),
                *[await one(method, view) for method in ("GetTask", "Pause", "Resume", "RunTask")],
            ]
            assert [task.view for task in found] == [given] * len(found)
            assert {task.http_target.body for task in found} == {b"12345" if given == FULL else b""}
            assert {task.http_target.body_size for task in found} == {0 if given == MINIMAL else 5}
            assert all(task.HasField("create_time") for task in found)
        assert (await one("Cancel", MINIMAL)).state == task_pb2.TASK_STATE_CANCELED

    @pytest.mark.parametrize(
        ("asked", "given"), [(0, MINIMAL), (MINIMAL, MINIMAL), (BASIC, BASIC), (FULL, FULL)]
    )
    async def test_a_batch_answers_what_the_client_does_not_know_unless_it_asks_for_more(
        self, edge: Edge, owner: Caller, asked: View, given: View
    ) -> None:
        request = pb.BatchSubscribeRequest(tasks=[smaller(f"t{i}", 10) for i in range(3)], view=asked)
        response = await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)
        assert [result.task.view for result in response.results] == [given] * 3
        for i, result in enumerate(response.results):
            assert (result.task.task_id, result.task.state) == (f"t{i}", task_pb2.TASK_STATE_SCHEDULED)
            assert result.task.HasField("create_time")
            assert result.task.HasField("schedule_time")
            assert result.task.HasField("http_target") == (given != MINIMAL)

    async def test_a_body_that_does_not_fit_is_left_out_with_its_size(self, store_url: str) -> None:
        async with serving(store_url, LIMITS) as edge:
            owner = await edge.register("owner@example.com")
            request = pb.SubscribeRequest(task=largest("a"), view=FULL)
            task = (await edge.tasks.Subscribe(request, metadata=owner.metadata)).task
            assert (task.view, task.http_target.body, task.http_target.body_size) == (BASIC, b"", BODY_BYTES)
            assert len(task.labels) == 64

    async def test_a_batch_is_as_full_as_fits_for_all_of_its_tasks(self, edge: Edge, owner: Caller) -> None:
        """500 tasks with the names of headers of 9 KB each, which every view but MINIMAL has."""
        tasks = [smaller(f"t{i}", 1) for i in range(500)]
        for task in tasks:
            task.http_target.headers["x" * 9_000] = "v"
        tasks[0].http_target.body = b"12345"
        request = pb.BatchSubscribeRequest(tasks=tasks, view=FULL)
        response = await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)
        assert {result.task.view for result in response.results} == {MINIMAL}
        del request.tasks[100:]
        for i, task in enumerate(request.tasks):
            task.task_id = f"u{i}"
            task.http_target.body = bytes(50_000)
        response = await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)
        assert {result.task.view for result in response.results} == {BASIC}
