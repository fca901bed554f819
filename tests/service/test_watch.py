"""Watch over a channel: order, no gaps, resuming, and how a stream ends."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb import timeline_pb2 as events
from kuueri_grpc.service.times import to_duration
from kuueri_grpc.store import keys
from kuueri_grpc.store.connection import StoreAddress
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal

Stream = AsyncIterator[pb.WatchResponse]


async def subscribe(edge: Edge, owner: Caller, task_id: str = "a") -> None:
    task = task_pb2.Task(
        task_id=task_id,
        http_target=task_pb2.HttpTarget(url="https://example.com/"),
        schedule=task_pb2.Schedule(delay=to_duration(3_600_000)),
    )
    await edge.tasks.Subscribe(pb.SubscribeRequest(task=task), metadata=owner.metadata)


async def pause(edge: Edge, owner: Caller) -> None:
    await edge.tasks.Pause(pb.PauseRequest(task_id="a"), metadata=owner.metadata)


async def resume(edge: Edge, owner: Caller) -> None:
    await edge.tasks.Resume(pb.ResumeRequest(task_id="a"), metadata=owner.metadata)


async def cancel(edge: Edge, owner: Caller) -> None:
    await edge.tasks.Cancel(pb.CancelRequest(task_id="a"), metadata=owner.metadata)


async def purge(edge: Edge, owner: Caller) -> None:
    await edge.tasks.Purge(pb.PurgeRequest(task_id="a"), metadata=owner.metadata)


def watch(edge: Edge, owner: Caller, resume_token: str = "") -> Stream:
    request = pb.WatchRequest(task_id="a", resume_token=resume_token)
    return aiter(edge.tasks.Watch(request, metadata=owner.metadata))


def short(message: pb.WatchResponse) -> str:
    """`snapshot`, `synced`, `heartbeat`, or an event as `1 SUBSCRIBED`."""
    kind = message.WhichOneof("message") or ""
    if kind != "event":
        return kind
    name = events.EventType.Name(message.event.type).removeprefix("EVENT_TYPE_")
    return f"{message.event.sequence} {name}"


async def read(stream: Stream, count: int) -> list[pb.WatchResponse]:
    return [await anext(stream) for _ in range(count)]


async def rest(stream: Stream) -> list[pb.WatchResponse]:
    """All messages up to the end, which must be OK."""
    return [message async for message in stream]


def shorts(messages: list[pb.WatchResponse]) -> list[str]:
    return [short(message) for message in messages]


async def test_a_watch_tells_what_was_then_what_happens_and_ends_with_the_task(
    edge: Edge, owner: Caller
) -> None:
    await subscribe(edge, owner)
    await pause(edge, owner)
    stream = watch(edge, owner)
    first = await read(stream, 4)
    assert shorts(first) == ["snapshot", "1 SUBSCRIBED", "2 PAUSED", "synced"]
    assert first[0].snapshot.state == task_pb2.TASK_STATE_PAUSED
    await resume(edge, owner)
    assert shorts(await read(stream, 1)) == ["3 RESUMED"]
    await cancel(edge, owner)
    last = await rest(stream)
    assert shorts(last) == ["4 CANCELED"]
    assert last[0].event.description == "Canceled by request"
    assert all(message.resume_token for message in first + last)


async def test_a_watch_of_a_task_that_has_ended_ends_at_once(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    await cancel(edge, owner)
    messages = await rest(watch(edge, owner))
    assert shorts(messages) == ["snapshot", "1 SUBSCRIBED", "2 CANCELED", "synced"]


async def test_a_watch_resumes_right_after_any_message(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    await pause(edge, owner)
    await resume(edge, owner)
    await cancel(edge, owner)
    whole = await rest(watch(edge, owner))
    told = [short(message) for message in whole if message.HasField("event")]
    assert told == ["1 SUBSCRIBED", "2 PAUSED", "3 RESUMED", "4 CANCELED"]
    seen = 0
    for message in whole:
        seen += message.HasField("event")
        again = await rest(watch(edge, owner, message.resume_token))
        assert shorts(again) == ["snapshot", *told[seen:], "synced"]


async def test_a_watch_resumes_on_another_server(store_url: str, edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    messages = await read(watch(edge, owner), 3)
    await pause(edge, owner)
    async with serving(store_url) as other:
        stream = watch(other, owner, messages[-1].resume_token)
        assert shorts(await read(stream, 3)) == ["snapshot", "2 PAUSED", "synced"]


async def test_two_watches_of_a_task_hear_the_same(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    streams = [watch(edge, owner) for _ in range(2)]
    for stream in streams:
        await read(stream, 3)
    await cancel(edge, owner)
    assert [shorts(await rest(stream)) for stream in streams] == [["2 CANCELED"]] * 2


async def test_a_watch_that_its_client_ends_leaves_nothing_behind(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    call = edge.tasks.Watch(pb.WatchRequest(task_id="a"), metadata=owner.metadata)
    await read(aiter(call), 3)
    call.cancel()
    # The next watch goes through all of joining again, behind the leaving of the first.
    stream = watch(edge, owner)
    await read(stream, 3)
    await cancel(edge, owner)
    assert shorts(await rest(stream)) == ["2 CANCELED"]


async def test_silence_is_filled_with_heartbeats_that_can_be_resumed_from(store_url: str) -> None:
    async with serving(store_url, heartbeat_ms=20) as edge:
        owner = await edge.register("owner@example.com")
        await subscribe(edge, owner)
        messages = await read(watch(edge, owner), 5)
        assert shorts(messages) == ["snapshot", "1 SUBSCRIBED", "synced", "heartbeat", "heartbeat"]
        times = [message.heartbeat.server_time.ToMilliseconds() for message in messages[3:]]
        assert messages[0].snapshot.create_time.ToMilliseconds() < times[0] <= times[1]
        await cancel(edge, owner)
        again = await rest(watch(edge, owner, messages[-1].resume_token))
        assert shorts(again) == ["snapshot", "2 CANCELED", "synced"]


async def test_refuses_a_token_of_another_task(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    await subscribe(edge, owner, "b")
    (snapshot,) = await read(watch(edge, owner), 1)
    request = pb.WatchRequest(task_id="b", resume_token=snapshot.resume_token)
    refused = await refusal(aiter(edge.tasks.Watch(request, metadata=owner.metadata)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID")
    assert list(refused.fields) == ["resume_token"]


@pytest.mark.parametrize("events_of_the_new_task", [1, 2, 5])
async def test_refuses_a_token_of_an_earlier_task_with_the_same_id(
    edge: Edge, owner: Caller, events_of_the_new_task: int
) -> None:
    await subscribe(edge, owner)
    await pause(edge, owner)
    messages = await read(watch(edge, owner), 3)
    await purge(edge, owner)
    await subscribe(edge, owner)
    for i in range(events_of_the_new_task - 1):
        await (resume if i % 2 else pause)(edge, owner)
    refused = await refusal(watch(edge, owner, messages[-1].resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")


async def test_refuses_a_token_from_before_the_store_lost_its_data(
    store_url: str, edge: Edge, owner: Caller
) -> None:
    await subscribe(edge, owner)
    (snapshot,) = await read(watch(edge, owner), 1)
    async with StoreAddress(store_url).connect() as client:
        await client.hset(keys.STORE, "epoch", "another")
    refused = await refusal(watch(edge, owner, snapshot.resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")


async def test_a_server_that_drains_ends_watches_with_unavailable(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    stream = watch(edge, owner)
    await read(stream, 3)
    edge.engine.watches.drain()
    for ended in (stream, watch(edge, owner)):
        refused = await refusal(ended)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() == 0


async def test_a_watch_of_a_task_that_is_purged_ends_with_not_found(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner)
    await pause(edge, owner)
    stream = watch(edge, owner)
    await read(stream, 4)
    ended = asyncio.create_task(refusal(stream))
    await purge(edge, owner)
    assert (await ended).reason == "TASK_NOT_FOUND"


@pytest.mark.parametrize("request_", [pb.WatchRequest(queue="orders"), pb.WatchRequest(all=True)])
async def test_watching_a_queue_or_all_is_not_done_yet(
    edge: Edge, owner: Caller, request_: pb.WatchRequest
) -> None:
    refused = await refusal(aiter(edge.tasks.Watch(request_, metadata=owner.metadata)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    assert refused.text == (
        "this version watches single tasks; set task_id, or poll ListTasks for a queue or for all"
    )


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.WatchRequest(), "scope"),
        (pb.WatchRequest(all=False), "all"),
        (pb.WatchRequest(task_id=""), "task_id"),
    ],
)
async def test_refuses_a_watch_of_nothing(
    edge: Edge, owner: Caller, request_: pb.WatchRequest, field: str
) -> None:
    refused = await refusal(aiter(edge.tasks.Watch(request_, metadata=owner.metadata)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(refused.fields) == [field]
