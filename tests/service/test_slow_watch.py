"""Watches whose clients do not read, and very many of them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub
from kuueri_grpc.ports import Telemetry
from kuueri_grpc.service import guard
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal_of
from tests.service.watching import (
    HOUR_MS,
    Call,
    Stream,
    cancel,
    pause,
    read,
    rest,
    shorts,
    subscribe,
    task,
    watch,
)

_Result = TypeVar("_Result")

ALL = pb.WatchRequest(all=True)
#: Far more events than what a client's window takes that is not opened further.
TASKS = 3_000
BATCH = 1_000
SMALL_WINDOW = (("grpc.http2.bdp_probe", 0),)


class Closings(Telemetry):
    """Hears of watches that were closed for their slowness."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    def slow_watch_closed(self) -> None:
        self.heard.set()


async def soon(awaitable: Awaitable[_Result]) -> _Result:
    """Wait for what must come, but not for ever."""
    async with asyncio.timeout(60):
        return await awaitable


async def all_there_is(stream: Stream) -> tuple[list[pb.WatchResponse], grpc.aio.AioRpcError]:
    """Read to the end, which must be an error."""
    messages: list[pb.WatchResponse] = []

    async def exhaust() -> None:
        async for message in stream:
            messages.append(message)  # noqa: PERF401  what came before the error is wanted too

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await exhaust()
    return messages, caught.value


@asynccontextmanager
async def lazy(edge: Edge, owner: Caller, resume_token: str, queue: str = "") -> AsyncIterator[Call]:
    """A watch of all, or of a queue, by a client of its own that has not begun to read."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{edge.server.port}", options=SMALL_WINDOW) as channel:
        request = pb.WatchRequest(all=True, resume_token=resume_token)
        if queue:
            request.queue = queue
        yield TaskServiceStub(channel).Watch(request, metadata=owner.metadata)


async def test_a_client_that_does_not_read_is_let_go_and_can_go_on_where_it_was(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closings = Closings()
    async with serving(store_url, queue_limit=TASKS, telemetry=closings) as edge:
        owner = await edge.register("owner@example.com")
        queue = pb.WatchRequest(queue="default")
        (synced,) = await read(watch(edge, owner, queue), 1)
        for start in range(0, TASKS, BATCH):
            await subscribe(edge, owner, *(task(f"t{n}") for n in range(start, start + BATCH)))

        async with lazy(edge, owner, synced.resume_token, "default") as stream:
            with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, guard.__name__):
                patched.setattr(guard, "SLOW_CLIENT_S", 0.1)
                await soon(closings.heard.wait())
            (record,) = caplog.records
            assert (vars(record)["event"], vars(record)["project"]) == ("slow_watch_closed", owner.project_id)
            assert vars(record)["queue"] == "default"
            # It begins to read: what was under way arrives, then why no more does.
            messages, error = await all_there_is(aiter(stream))
        refused = refusal_of(error)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "WATCHER_TOO_SLOW")
        assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() == 0
        assert 0 < len(messages) < TASKS

        missed = TASKS - len(messages)
        again = await read(watch(edge, owner, queue, messages[-1].resume_token), missed + 1)
        assert [message.event.task_id for message in [*messages, *again[:-1]]] == [
            f"t{n}" for n in range(TASKS)
        ]
        assert shorts(again[-1:]) == ["synced"]


async def test_one_that_ends_while_its_first_message_is_sent_is_told_why(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SLOW_CLIENT_S", 0.0)
    async with serving(store_url) as edge:
        owner = await edge.register("owner@example.com")

        _, error = await soon(all_there_is(watch(edge, owner, ALL)))

        assert refusal_of(error).reason == "WATCHER_TOO_SLOW"
        assert not edge.engine.watches.watchers


async def test_a_client_that_does_not_read_holds_nobody_else_up(store_url: str) -> None:
    async with serving(store_url, queue_limit=2 * TASKS) as edge:
        owner = await edge.register("owner@example.com")
        stream = watch(edge, owner, ALL)
        (synced,) = await read(stream, 1)
        async with lazy(edge, owner, synced.resume_token):
            for start in range(0, TASKS, BATCH):
                await subscribe(edge, owner, *(task(f"t{n}") for n in range(start, start + BATCH)))
            told = await soon(read(stream, TASKS))
        assert [message.event.task_id for message in told] == [f"t{n}" for n in range(TASKS)]


async def test_a_thousand_watches_of_one_task_are_all_told_to_the_end(store_url: str) -> None:
    async with serving(store_url, heartbeat_ms=HOUR_MS) as edge:
        await all_are_told_to_the_end(edge, await edge.register("owner@example.com"))


async def all_are_told_to_the_end(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("a"))
    streams = [watch(edge, owner, pb.WatchRequest(task_id="a")) for _ in range(1_000)]
    first = await soon(asyncio.gather(*(read(stream, 3) for stream in streams)))
    assert [shorts(messages) for messages in first] == [["snapshot", "1 SUBSCRIBED", "synced"]] * 1_000
    assert edge.engine.watches.watchers == 1_000

    await pause(edge, owner)
    await cancel(edge, owner)

    last = await soon(asyncio.gather(*(rest(stream) for stream in streams)))
    assert [shorts(messages) for messages in last] == [["2 PAUSED", "3 CANCELED"]] * 1_000
    assert edge.engine.watches.watchers == 0


async def test_one_of_a_thousand_watchers_stops_reading(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closings = Closings()
    async with serving(store_url, queue_limit=TASKS + 1, heartbeat_ms=HOUR_MS, telemetry=closings) as edge:
        owner = await edge.register("owner@example.com")
        await subscribe(edge, owner, task("a"))
        streams = [watch(edge, owner, pb.WatchRequest(task_id="a")) for _ in range(999)]
        await soon(asyncio.gather(*(read(stream, 3) for stream in streams)))
        (synced,) = await read(watch(edge, owner, ALL), 1)
        async with lazy(edge, owner, synced.resume_token) as stream:
            # Nothing is under way to the others meanwhile.
            with monkeypatch.context() as patched:
                patched.setattr(guard, "SLOW_CLIENT_S", 0.1)
                for start in range(0, TASKS, BATCH):
                    await subscribe(edge, owner, *(task(f"t{n}") for n in range(start, start + BATCH)))
                await soon(closings.heard.wait())
            assert edge.engine.watches.watchers >= 999
            await pause(edge, owner)
            await cancel(edge, owner)
            last = await soon(asyncio.gather(*(rest(stream) for stream in streams)))
            messages, error = await all_there_is(aiter(stream))
        assert [shorts(told) for told in last] == [["2 PAUSED", "3 CANCELED"]] * 999
        assert refusal_of(error).reason == "WATCHER_TOO_SLOW"
        # One message is no event, but tells when what had been missed was told.
        again = watch(edge, owner, ALL, messages[-1].resume_token)
        told = [message.event.task_id for message in messages if message.HasField("event")]
        while len(told) < TASKS:
            message = await soon(anext(again))
            told += [message.event.task_id] if message.HasField("event") else []
        assert told == [f"t{n}" for n in range(TASKS)]
