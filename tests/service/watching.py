"""Watching in a test: the calls that make events, and streams read message by message."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc.aio

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb import timeline_pb2 as events
from kuueri_grpc.service.times import to_duration
from tests.service.edge import Caller, Edge

Stream = AsyncIterator[pb.WatchResponse]
Call: TypeAlias = "grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse]"

HOUR_MS = 3_600_000


def task(task_id: str, queue: str = "", body: bytes = b"") -> task_pb2.Task:
    """A task that is due in an hour."""
    return task_pb2.Task(
        task_id=task_id,
        queue=queue,
        http_target=task_pb2.HttpTarget(url="https://example.com/", body=body),
        schedule=task_pb2.Schedule(delay=to_duration(HOUR_MS)),
    )


async def subscribe(edge: Edge, owner: Caller, *tasks: task_pb2.Task) -> None:
    """Subscribe tasks in one call."""
    request = pb.BatchSubscribeRequest(tasks=tasks)
    response = await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)
    assert all(result.HasField("task") for result in response.results)


async def pause(edge: Edge, owner: Caller, task_id: str = "a") -> None:
    await edge.tasks.Pause(pb.PauseRequest(task_id=task_id), metadata=owner.metadata)


async def resume(edge: Edge, owner: Caller, task_id: str = "a") -> None:
    await edge.tasks.Resume(pb.ResumeRequest(task_id=task_id), metadata=owner.metadata)


async def cancel(edge: Edge, owner: Caller, task_id: str = "a") -> None:
    await edge.tasks.Cancel(pb.CancelRequest(task_id=task_id), metadata=owner.metadata)


async def purge(edge: Edge, owner: Caller, task_id: str = "a") -> None:
    await edge.tasks.Purge(pb.PurgeRequest(task_id=task_id), metadata=owner.metadata)


def call(edge: Edge, owner: Caller, request: pb.WatchRequest, resume_token: str = "") -> Call:
    """Begin a watch of what `request` says, or go on with it."""
    asked = pb.WatchRequest(resume_token=resume_token)
    asked.MergeFrom(request)
    return edge.tasks.Watch(asked, metadata=owner.metadata)


def watch(edge: Edge, owner: Caller, request: pb.WatchRequest, resume_token: str = "") -> Stream:
    """Like `call`, to be read from its first message on."""
    return aiter(call(edge, owner, request, resume_token))


async def read(stream: Stream, count: int) -> list[pb.WatchResponse]:
    return [await anext(stream) for _ in range(count)]


async def rest(stream: Stream) -> list[pb.WatchResponse]:
    """All messages up to the end, which must be OK."""
    return [message async for message in stream]


def short(message: pb.WatchResponse) -> str:
    """`snapshot`, `synced`, `heartbeat`, or an event as `1 SUBSCRIBED`."""
    kind = message.WhichOneof("message") or ""
    if kind != "event":
        return kind
    name = events.EventType.Name(message.event.type).removeprefix("EVENT_TYPE_")
    return f"{message.event.sequence} {name}"


def shorts(messages: list[pb.WatchResponse]) -> list[str]:
    return [short(message) for message in messages]


def of_tasks(messages: list[pb.WatchResponse]) -> list[str]:
    """Like `shorts`, with the task in front of its event: `a 1 SUBSCRIBED`."""
    return [f"{message.event.task_id} {short(message)}".lstrip() for message in messages]
