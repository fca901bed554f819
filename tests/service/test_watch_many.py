"""Watch of a queue, or of all tasks of a project: order, no gaps, resuming, and whose events are told."""

import asyncio

import grpc
import pytest

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.store import keys
from kuueri_grpc.store.connection import StoreAddress
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal
from tests.service.watching import (
    call,
    cancel,
    of_tasks,
    pause,
    purge,
    read,
    resume,
    shorts,
    subscribe,
    task,
    watch,
)

ALL = pb.WatchRequest(all=True)
ORDERS = pb.WatchRequest(queue="orders")


async def toggle(edge: Edge, owner: Caller, task_id: str, times: int = 1) -> None:
    """Make events of a task, two each time."""
    for _ in range(times):
        await pause(edge, owner, task_id)
        await resume(edge, owner, task_id)


async def test_all_tells_what_happens_to_every_task_from_now_on(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    stream = watch(edge, owner, ALL)
    assert shorts(await read(stream, 1)) == ["synced"]

    await subscribe(edge, owner, task("b", "orders"), task("c"))
    await pause(edge, owner, "a")
    await cancel(edge, owner, "b")

    told = await read(stream, 4)
    assert of_tasks(told) == ["b 1 SUBSCRIBED", "c 1 SUBSCRIBED", "a 2 PAUSED", "b 2 CANCELED"]
    assert told[3].event.description == "Canceled by request"
    assert all(message.resume_token for message in told)


async def test_a_queue_tells_of_its_own_tasks_alone(edge: Edge, owner: Caller) -> None:
    stream = watch(edge, owner, ORDERS)
    assert shorts(await read(stream, 1)) == ["synced"]

    await subscribe(edge, owner, task("a"), task("b", "orders"), task("c", "orders2"))
    await pause(edge, owner, "a")
    await pause(edge, owner, "c")
    await pause(edge, owner, "b")

    assert of_tasks(await read(stream, 2)) == ["b 1 SUBSCRIBED", "b 2 PAUSED"]


async def test_an_attempt_is_told_as_it_goes(edge: Edge, owner: Caller) -> None:
    stream = watch(edge, owner, ALL)
    await read(stream, 1)
    await subscribe(edge, owner, task("a"))
    await edge.tasks.RunTask(pb.RunTaskRequest(task_id="a"), metadata=owner.metadata)

    assert len(await edge.claim(owner.project_id)) == 1

    assert of_tasks(await read(stream, 2)) == ["a 1 SUBSCRIBED", "a 2 DISPATCHED"]


@pytest.mark.parametrize("scope", [ALL, ORDERS], ids=["all", "queue"])
async def test_it_resumes_right_after_any_message(edge: Edge, owner: Caller, scope: pb.WatchRequest) -> None:
    """Also in the midst of what one call has done."""
    stream = watch(edge, owner, scope)
    whole = await read(stream, 1)
    await subscribe(edge, owner, *(task(f"t{n}", "orders" if n % 2 else "other") for n in range(6)))
    for n in range(6):
        await pause(edge, owner, f"t{n}")
    whole += await read(stream, 12 if scope is ALL else 6)
    told = of_tasks(whole[1:])

    for seen, message in enumerate(whole):
        again = await read(watch(edge, owner, scope, message.resume_token), len(told) - seen + 1)
        assert of_tasks(again) == [*told[seen:], "synced"]


@pytest.mark.parametrize(("scope", "count"), [(ALL, 120), (ORDERS, 90)], ids=["all", "queue"])
async def test_nothing_is_missed_or_repeated_while_things_happen(
    store_url: str, scope: pb.WatchRequest, count: int
) -> None:
    """A client that leaves after every few messages, and goes on with the last token it got."""
    async with serving(store_url, heartbeat_ms=20) as edge:
        owner = await edge.register("owner@example.com")
        await subscribe(edge, owner, *(task(f"t{n}", "orders") for n in range(3)), task("else", "other"))
        (synced,) = await read(watch(edge, owner, scope), 1)
        busy = asyncio.gather(*(toggle(edge, owner, name, 15) for name in ("t0", "t1", "t2", "else")))

        token, told = synced.resume_token, list[pb.WatchResponse]()
        while len(told) < count:
            visit = call(edge, owner, scope, token)
            for message in await read(aiter(visit), 4):
                token = message.resume_token
                if message.HasField("event"):
                    told.append(message)
            visit.cancel()
        await busy

    sequences = {message.event.task_id: list[int]() for message in told}
    for message in told:
        sequences[message.event.task_id].append(message.event.sequence)
    assert list(sequences.values()) == [list(range(2, 32))] * (count // 30)


async def test_it_resumes_on_another_server(store_url: str, edge: Edge, owner: Caller) -> None:
    (synced,) = await read(watch(edge, owner, ALL), 1)
    await subscribe(edge, owner, task("a"))
    async with serving(store_url) as other:
        stream = watch(other, owner, ALL, synced.resume_token)
        assert of_tasks(await read(stream, 2)) == ["a 1 SUBSCRIBED", "synced"]
        await pause(edge, owner, "a")
        assert of_tasks(await read(stream, 1)) == ["a 2 PAUSED"]


async def test_watches_of_all_and_of_queues_beside_each_other(edge: Edge, owner: Caller) -> None:
    """They share one reading of the feed."""
    scopes = (ALL, ORDERS, pb.WatchRequest(queue="other"), ALL)
    streams = [watch(edge, owner, scope) for scope in scopes]
    for stream in streams:
        await read(stream, 1)
    await subscribe(edge, owner, task("a", "orders"), task("b", "other"))
    assert [of_tasks(await read(stream, n)) for stream, n in zip(streams, (2, 1, 1, 2), strict=True)] == [
        ["a 1 SUBSCRIBED", "b 1 SUBSCRIBED"],
        ["a 1 SUBSCRIBED"],
        ["b 1 SUBSCRIBED"],
        ["a 1 SUBSCRIBED", "b 1 SUBSCRIBED"],
    ]


@pytest.mark.parametrize("scope", [ALL, ORDERS], ids=["all", "queue"])
async def test_another_project_s_events_are_never_told(
    edge: Edge, owner: Caller, stranger: Caller, scope: pb.WatchRequest
) -> None:
    stream = watch(edge, owner, scope)
    (synced,) = await read(stream, 1)
    await subscribe(edge, stranger, task("secret", "orders"))
    await toggle(edge, stranger, "secret")
    await subscribe(edge, owner, task("mine", "orders"))
    await cancel(edge, stranger, "secret")
    await pause(edge, owner, "mine")

    mine = ["mine 1 SUBSCRIBED", "mine 2 PAUSED"]
    assert of_tasks(await read(stream, 2)) == mine
    again = await read(watch(edge, owner, scope, synced.resume_token), 3)
    assert of_tasks(again) == [*mine, "synced"]


async def test_the_events_of_a_purged_task_are_still_resumed(edge: Edge, owner: Caller) -> None:
    (synced,) = await read(watch(edge, owner, ALL), 1)
    await subscribe(edge, owner, task("a"))
    await cancel(edge, owner, "a")
    await purge(edge, owner, "a")
    again = await read(watch(edge, owner, ALL, synced.resume_token), 3)
    assert of_tasks(again) == ["a 1 SUBSCRIBED", "a 2 CANCELED", "synced"]


async def test_silence_is_filled_with_heartbeats_that_can_be_resumed_from(store_url: str) -> None:
    async with serving(store_url, heartbeat_ms=20) as edge:
        owner = await edge.register("owner@example.com")
        messages = await read(watch(edge, owner, ORDERS), 3)
        assert shorts(messages) == ["synced", "heartbeat", "heartbeat"]
        await subscribe(edge, owner, task("a", "orders"))
        again = await read(watch(edge, owner, ORDERS, messages[-1].resume_token), 2)
        assert of_tasks(again) == ["a 1 SUBSCRIBED", "synced"]


SCOPES = {
    "task": pb.WatchRequest(task_id="a"),
    "all": ALL,
    "queue": ORDERS,
    "other queue": pb.WatchRequest(queue="other"),
}


@pytest.mark.parametrize("other", SCOPES)
@pytest.mark.parametrize("given_out", SCOPES)
async def test_a_token_is_of_its_own_scope(edge: Edge, owner: Caller, given_out: str, other: str) -> None:
    await subscribe(edge, owner, task("a", "orders"))
    (first,) = await read(watch(edge, owner, SCOPES[given_out]), 1)
    resumed = watch(edge, owner, SCOPES[other], first.resume_token)
    if given_out == other:
        await read(resumed, 1)
        return
    refused = await refusal(resumed)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID")
    assert list(refused.fields) == ["resume_token"]


@pytest.mark.parametrize("scope", [ALL, ORDERS], ids=["all", "queue"])
async def test_a_token_is_of_its_own_project(
    edge: Edge, owner: Caller, stranger: Caller, scope: pb.WatchRequest
) -> None:
    (synced,) = await read(watch(edge, owner, scope), 1)
    refused = await refusal(watch(edge, stranger, scope, synced.resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID")


@pytest.mark.parametrize("scope", [ALL, ORDERS], ids=["all", "queue"])
async def test_a_position_that_is_not_kept_any_more_is_refused(
    store_url: str, scope: pb.WatchRequest
) -> None:
    async with serving(store_url, feed_cap=10) as edge:
        owner = await edge.register("owner@example.com")
        (old,) = await read(watch(edge, owner, scope), 1)
        await subscribe(edge, owner, task("a", "orders"))
        await toggle(edge, owner, "a", 130)  # the store cuts by whole blocks of a hundred
        refused = await refusal(watch(edge, owner, scope, old.resume_token))
        assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")
        assert shorts(await read(watch(edge, owner, scope), 1)) == ["synced"]


async def test_refuses_a_token_from_before_the_store_lost_its_data(
    store_url: str, edge: Edge, owner: Caller
) -> None:
    (synced,) = await read(watch(edge, owner, ALL), 1)
    async with StoreAddress(store_url).connect() as client:
        await client.hset(keys.STORE, "epoch", "another")
    refused = await refusal(watch(edge, owner, ALL, synced.resume_token))
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")


@pytest.mark.parametrize("scope", [ALL, ORDERS], ids=["all", "queue"])
async def test_a_server_that_drains_ends_watches_with_unavailable(
    edge: Edge, owner: Caller, scope: pb.WatchRequest
) -> None:
    stream = watch(edge, owner, scope)
    await read(stream, 1)
    edge.engine.watches.drain()
    for ended in (stream, watch(edge, owner, scope)):
        refused = await refusal(ended)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
