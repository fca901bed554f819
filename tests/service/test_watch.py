"""Watch of one task over a channel: order, no gaps, resuming, and how a stream ends."""

import json

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub
from kuueri_grpc.ports import Telemetry
from kuueri_grpc.store import keys
from kuueri_grpc.store.connection import StoreAddress
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal
from tests.service.watching import (
    cancel,
    pause,
    purge,
    read,
    rest,
    resume,
    short,
    shorts,
    subscribe,
    task,
    watch,
)

TASK_A = pb.WatchRequest(task_id="a")
QUEUE = pb.WatchRequest(queue="default")
ALL = pb.WatchRequest(all=True)


class Ended(Telemetry):
    """Notes how watches have ended."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        if method == "TaskService/Watch":
            self.codes.append(code)


async def test_a_watch_tells_what_was_then_what_happens_and_ends_with_the_task(
    edge: Edge, owner: Caller
) -> None:
    await subscribe(edge, owner, task("a"))
    await pause(edge, owner)
    stream = watch(edge, owner, TASK_A)
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
    await subscribe(edge, owner, task("a"))
    await cancel(edge, owner)
    messages = await rest(watch(edge, owner, TASK_A))
    assert shorts(messages) == ["snapshot", "1 SUBSCRIBED", "2 CANCELED", "synced"]


async def test_a_watch_resumes_right_after_any_message(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    await pause(edge, owner)
    await resume(edge, owner)
    await cancel(edge, owner)
    whole = await rest(watch(edge, owner, TASK_A))
    told = [short(message) for message in whole if message.HasField("event")]
    assert told == ["1 SUBSCRIBED", "2 PAUSED", "3 RESUMED", "4 CANCELED"]
    seen = 0
    for message in whole:
        seen += message.HasField("event")
        again = await rest(watch(edge, owner, TASK_A, message.resume_token))
        assert shorts(again) == ["snapshot", *told[seen:], "synced"]


async def test_a_watch_resumes_on_another_server(store_url: str, edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    messages = await read(watch(edge, owner, TASK_A), 3)
    await pause(edge, owner)
    async with serving(store_url) as other:
        stream = watch(other, owner, TASK_A, messages[-1].resume_token)
        assert shorts(await read(stream, 3)) == ["snapshot", "2 PAUSED", "synced"]


async def test_two_watches_of_a_task_hear_the_same(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    streams = [watch(edge, owner, TASK_A) for _ in range(2)]
    for stream in streams:
        await read(stream, 3)
    await cancel(edge, owner)
    assert [shorts(await rest(stream)) for stream in streams] == [["2 CANCELED"]] * 2


async def test_a_watch_that_its_client_ends_leaves_nothing_behind(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    call = edge.tasks.Watch(TASK_A, metadata=owner.metadata)
    await read(aiter(call), 3)
    call.cancel()
    # The next watch goes through all of joining again, behind the leaving of the first.
    stream = watch(edge, owner, TASK_A)
    await read(stream, 3)
    await cancel(edge, owner)
    assert shorts(await rest(stream)) == ["2 CANCELED"]


async def test_silence_is_filled_with_heartbeats_that_can_be_resumed_from(store_url: str) -> None:
    async with serving(store_url, heartbeat_ms=20) as edge:
        owner = await edge.register("owner@example.com")
        await subscribe(edge, owner, task("a"))
        messages = await read(watch(edge, owner, TASK_A), 5)
        assert shorts(messages) == ["snapshot", "1 SUBSCRIBED", "synced", "heartbeat", "heartbeat"]
        times = [message.heartbeat.server_time.ToMilliseconds() for message in messages[3:]]
        assert messages[0].snapshot.create_time.ToMilliseconds() < times[0] <= times[1]
        await cancel(edge, owner)
        again = await rest(watch(edge, owner, TASK_A, messages[-1].resume_token))
        assert shorts(again) == ["snapshot", "2 CANCELED", "synced"]


async def test_refuses_a_token_of_another_task(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    await subscribe(edge, owner, task("b"))
    (snapshot,) = await read(watch(edge, owner, TASK_A), 1)
    refused = await refusal(watch(edge, owner, pb.WatchRequest(task_id="b"), snapshot.resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID")
    assert list(refused.fields) == ["resume_token"]


@pytest.mark.parametrize("events_of_the_new_task", [1, 2, 5])
async def test_refuses_a_token_of_an_earlier_task_with_the_same_id(
    edge: Edge, owner: Caller, events_of_the_new_task: int
) -> None:
    await subscribe(edge, owner, task("a"))
    await pause(edge, owner)
    messages = await read(watch(edge, owner, TASK_A), 3)
    await purge(edge, owner)
    await subscribe(edge, owner, task("a"))
    for i in range(events_of_the_new_task - 1):
        await (resume if i % 2 else pause)(edge, owner)
    refused = await refusal(watch(edge, owner, TASK_A, messages[-1].resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")


async def test_refuses_a_token_from_before_the_store_lost_its_data(
    store_url: str, edge: Edge, owner: Caller
) -> None:
    await subscribe(edge, owner, task("a"))
    (snapshot,) = await read(watch(edge, owner, TASK_A), 1)
    async with StoreAddress(store_url).connect() as client:
        await client.hset(keys.STORE, "epoch", "another")
    refused = await refusal(watch(edge, owner, TASK_A, snapshot.resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")


async def test_a_server_that_drains_ends_watches_with_unavailable(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    stream = watch(edge, owner, TASK_A)
    await read(stream, 3)
    edge.engine.watches.drain()
    for ended in (stream, watch(edge, owner, TASK_A)):
        refused = await refusal(ended)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() == 0


async def test_a_watch_of_a_task_that_is_purged_ends_with_its_last_event(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    await pause(edge, owner)
    stream, of_queue, of_all = (watch(edge, owner, request) for request in (TASK_A, QUEUE, ALL))
    first = await read(stream, 4)
    for other in (of_queue, of_all):
        assert shorts(await read(other, 1)) == ["synced"]
    await purge(edge, owner)

    assert shorts(await rest(stream)) == ["3 CANCELED"]
    for other in (of_queue, of_all):
        assert shorts(await read(other, 1)) == ["3 CANCELED"]
    for resume_token in ("", first[-1].resume_token):
        assert (await refusal(watch(edge, owner, TASK_A, resume_token))).reason == "TASK_NOT_FOUND"


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
    refused = await refusal(watch(edge, owner, request_))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(refused.fields) == [field]


async def test_a_watch_that_is_refused_at_once_can_be_repeated_by_the_client_s_grpc(store_url: str) -> None:
    """It repeats a call by itself where the status came alone, and never once anything came before it."""
    ended = Ended()
    policy = {
        "name": [{"service": "kuueri.tasks.v1.TaskService"}],
        "retryPolicy": {
            "maxAttempts": 3,
            "initialBackoff": "0.01s",
            "maxBackoff": "0.01s",
            "backoffMultiplier": 1,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }
    config = ("grpc.service_config", json.dumps({"methodConfig": [policy]}))
    async with serving(store_url, telemetry=ended) as edge:
        owner = await edge.register("owner@example.com")
        edge.engine.watches.drain()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.server.port}", options=[config]) as channel:
            stream = TaskServiceStub(channel).Watch(TASK_A, metadata=owner.metadata)

            assert (await refusal(stream.read())).reason == "SHUTTING_DOWN"

    assert ended.codes == ["UNAVAILABLE"] * 3
