"""A project and the calls that it makes, with the generated stubs over a real channel."""

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kuueri_grpc.pb import project_pb2, task_pb2
from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub
from kuueri_grpc.pb.timeline_pb2 import EventType, Reason, TimelineEvent
from tests.acceptance.served import PATIENCE_S

_numbers = itertools.count(1)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a server."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel


def new_email() -> str:
    """Return an address that no other test registers, in this process or another."""
    return f"test-{os.getpid()}-{next(_numbers)}@example.com"


def duration(milliseconds: int) -> Duration:
    message = Duration()
    message.FromMilliseconds(milliseconds)
    return message


def timestamp(instant_ms: int) -> Timestamp:
    message = Timestamp()
    message.FromMilliseconds(instant_ms)
    return message


def ms(time: Timestamp | Duration) -> int:
    return time.ToMilliseconds()


def after(milliseconds: int) -> task_pb2.Schedule:
    return task_pb2.Schedule(delay=duration(milliseconds))


def wait(
    interval_ms: int, growth: task_pb2.Growth.ValueType = task_pb2.GROWTH_CONSTANT, **more: Any
) -> task_pb2.Backoff:
    return task_pb2.Backoff(interval=duration(interval_ms), growth=growth, **more)


def retries(count: int, interval_ms: int = 1, **more: Any) -> task_pb2.RetryPolicy:
    return task_pb2.RetryPolicy(max_retries=count, backoff=wait(interval_ms), **more)


def repeats(count: int, interval_ms: int = 1) -> task_pb2.RepeatPolicy:
    return task_pb2.RepeatPolicy(max_repeats=count, backoff=wait(interval_ms))


def post(url: str, **fields: Any) -> task_pb2.Task:
    """Return a task that posts nothing to `url`."""
    return task_pb2.Task(http_target=task_pb2.HttpTarget(url=url), **fields)


def path_of(task: task_pb2.Task) -> str:
    """Return the path of a task's target."""
    return urlsplit(task.http_target.url).path


def type_name(event: TimelineEvent) -> str:
    return EventType.Name(event.type).removeprefix("EVENT_TYPE_")


def reason_name(event: TimelineEvent | task_pb2.Attempt) -> str:
    return Reason.Name(event.reason).removeprefix("REASON_")


def state_name(task: task_pb2.Task) -> str:
    return task_pb2.TaskState.Name(task.state).removeprefix("TASK_STATE_")


def types(events: Sequence[TimelineEvent]) -> list[str]:
    return [type_name(event) for event in events]


def of_type(events: Sequence[TimelineEvent], name: str) -> list[TimelineEvent]:
    return [event for event in events if type_name(event) == name]


class Project:
    """A registered project on one channel. Refusals are raised as `grpc.aio.AioRpcError`."""

    def __init__(self, channel: grpc.aio.Channel, project_id: str, token: str, signing_secret: str) -> None:
        self.project_id = project_id
        self.token = token
        self.signing_secret = signing_secret
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.tasks = TaskServiceStub(channel)
        self.projects = ProjectServiceStub(channel)

    def on(self, channel: grpc.aio.Channel) -> "Project":
        """The same project over another channel: its server was started anew."""
        return Project(channel, self.project_id, self.token, self.signing_secret)

    async def subscribe(self, task: task_pb2.Task, request_id: str = "") -> task_pb2.Task:
        request = tasks_pb.SubscribeRequest(task=task, request_id=request_id, view=task_pb2.TASK_VIEW_FULL)
        return (await self.tasks.Subscribe(request, metadata=self.metadata)).task

    async def batch(
        self, tasks: Sequence[task_pb2.Task], request_id: str = ""
    ) -> Sequence[tasks_pb.BatchSubscribeResult]:
        request = tasks_pb.BatchSubscribeRequest(tasks=tasks, request_id=request_id)
        return (await self.tasks.BatchSubscribe(request, metadata=self.metadata)).results

    async def get(self, task_id: str) -> task_pb2.Task:
        request = tasks_pb.GetTaskRequest(task_id=task_id, view=task_pb2.TASK_VIEW_FULL)
        return (await self.tasks.GetTask(request, metadata=self.metadata)).task

    async def list(self, **filters: Any) -> tasks_pb.ListTasksResponse:
        return await self.tasks.ListTasks(tasks_pb.ListTasksRequest(**filters), metadata=self.metadata)

    async def cancel(self, task_id: str) -> task_pb2.Task:
        request = tasks_pb.CancelRequest(task_id=task_id)
        return (await self.tasks.Cancel(request, metadata=self.metadata)).task

    async def pause(self, task_id: str) -> task_pb2.Task:
        request = tasks_pb.PauseRequest(task_id=task_id)
        return (await self.tasks.Pause(request, metadata=self.metadata)).task

    async def resume(self, task_id: str) -> task_pb2.Task:
        request = tasks_pb.ResumeRequest(task_id=task_id, view=task_pb2.TASK_VIEW_FULL)
        return (await self.tasks.Resume(request, metadata=self.metadata)).task

    async def run(self, task_id: str) -> task_pb2.Task:
        request = tasks_pb.RunTaskRequest(task_id=task_id)
        return (await self.tasks.RunTask(request, metadata=self.metadata)).task

    async def purge(self, task_id: str) -> None:
        await self.tasks.Purge(tasks_pb.PurgeRequest(task_id=task_id), metadata=self.metadata)

    async def timeline_page(self, task_id: str, **page: Any) -> tasks_pb.GetTimelineResponse:
        request = tasks_pb.GetTimelineRequest(task_id=task_id, **page)
        return await self.tasks.GetTimeline(request, metadata=self.metadata)

    async def timeline(self, task_id: str) -> Sequence[TimelineEvent]:
        """Return all events; tests make no more than fit on a page."""
        page = await self.timeline_page(task_id, page_size=1_000)
        assert not page.next_page_token
        return page.events

    async def facts(self) -> project_pb2.Project:
        """Return what the server knows of the project."""
        request = projects_pb.GetProjectRequest()
        return (await self.projects.GetProject(request, metadata=self.metadata)).project

    async def rotate_signing_secret(self) -> str:
        request = projects_pb.RotateSigningSecretRequest()
        return (await self.projects.RotateSigningSecret(request, metadata=self.metadata)).signing_secret

    def watch(self, task_id: str, resume_token: str = "") -> AsyncGenerator[tasks_pb.WatchResponse, None]:
        """Yield the messages of a Watch to its end; left before, the stream is cancelled."""
        request = tasks_pb.WatchRequest(
            task_id=task_id, resume_token=resume_token, view=task_pb2.TASK_VIEW_FULL
        )
        return self._watch(request)

    def watch_all(self, resume_token: str = "") -> AsyncGenerator[tasks_pb.WatchResponse, None]:
        """Like `watch`, of all tasks."""
        return self._watch(tasks_pb.WatchRequest(all=True, resume_token=resume_token))

    async def _watch(self, request: tasks_pb.WatchRequest) -> AsyncGenerator[tasks_pb.WatchResponse, None]:
        stream = self.tasks.Watch(request, metadata=self.metadata)
        try:
            async for message in stream:
                yield message
        finally:
            stream.cancel()

    async def until(self, task_id: str, name: str, count: int = 1) -> TimelineEvent:
        """Return the `count`-th event of a type when it has happened."""
        seen: list[str] = []
        async with asyncio.timeout(PATIENCE_S), aclosing(self.watch(task_id)) as messages:
            async for message in messages:
                if message.WhichOneof("message") == "event":
                    seen.append(type_name(message.event))
                    if seen.count(name) == count and seen[-1] == name:
                        return message.event
        raise AssertionError(f"the task has ended without {count} {name}: {seen}")

    async def ended(self, task_id: str) -> tuple[task_pb2.Task, Sequence[TimelineEvent]]:
        """Return a task and its timeline when it has ended."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.watch(task_id):
                pass
        task, events = await self.get(task_id), await self.timeline(task_id)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        return task, events


async def register(channel: grpc.aio.Channel, admin_token: str | None = None) -> Project:
    """Make a project of its own."""
    metadata = () if admin_token is None else (("authorization", f"Bearer {admin_token}"),)
    request = projects_pb.RegisterRequest(email=new_email())
    made = await ProjectServiceStub(channel).Register(request, metadata=metadata)
    return Project(channel, made.project.project_id, made.token, made.signing_secret)
