"""Row 8: following a task live, without a gap and without a repeat."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import grpc

from kuueri_grpc.pb.task_service_pb2 import WatchResponse
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import (
    Project,
    after,
    connected,
    post,
    register,
    repeats,
    retries,
    state_name,
    type_name,
    types,
)
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.acceptance.targets import OK, Target, held, listening, status
from tests.service.statuses import refusal

HOUR_MS = 3_600_000
Messages = AsyncGenerator[WatchResponse, None]


async def following(messages: Messages, count: int) -> list[WatchResponse]:
    """Return the next messages."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(messages) for _ in range(count)]


async def to_the_end(messages: Messages) -> list[WatchResponse]:
    """Return all that come until the stream ends with OK."""
    async with asyncio.timeout(PATIENCE_S):
        return [message async for message in messages]


def kinds(messages: Sequence[WatchResponse]) -> list[str]:
    """Name what came: events by their type, other messages in lower case."""
    return [
        type_name(message.event)
        if message.WhichOneof("message") == "event"
        else str(message.WhichOneof("message"))
        for message in messages
    ]


def events_of(messages: Sequence[WatchResponse]) -> list[TimelineEvent]:
    return [message.event for message in messages if message.WhichOneof("message") == "event"]


async def test_row_08_watch_gives_snapshot_missed_synced_live_and_ends(
    project: Project, target: Target
) -> None:
    gate = asyncio.Event()
    task = await project.subscribe(
        post(target.script("/hook", status(500), held(gate)), retry_policy=retries(1))
    )
    await target.received("/hook", 2)

    async with aclosing(project.watch(task.task_id)) as messages:
        first = await following(messages, 7)
        assert kinds(first) == [
            "snapshot",
            *["SUBSCRIBED", "DISPATCHED", "ERRORED", "RETRY_SCHEDULED", "DISPATCHED"],
            "synced",
        ]
        assert first[0].snapshot == await project.get(task.task_id)
        gate.set()
        live = await to_the_end(messages)
    assert kinds(live) == ["SUCCEEDED", "COMPLETED"]
    assert all(message.resume_token for message in (*first, *live))
    assert events_of([*first, *live]) == list(await project.timeline(task.task_id))


async def test_row_08_watch_of_an_ended_task_tells_all_and_ends(project: Project, target: Target) -> None:
    task = await project.subscribe(post(target.url("/hook")))
    task, events = await project.ended(task.task_id)

    messages = await to_the_end(project.watch(task.task_id))

    assert kinds(messages) == ["snapshot", *types(events), "synced"]
    assert messages[0].snapshot == task


async def test_row_08_every_event_arrives_live_in_order(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(target.script("/hook", OK), schedule=after(HOUR_MS), repeat_policy=repeats(50))
    )
    async with aclosing(project.watch(task.task_id)) as messages:
        assert kinds(await following(messages, 3)) == ["snapshot", "SUBSCRIBED", "synced"]
        await project.pause(task.task_id)
        assert kinds(await following(messages, 1)) == ["PAUSED"]
        await project.resume(task.task_id)
        assert kinds(await following(messages, 1)) == ["RESUMED"]
        await project.run(task.task_id)
        live = await to_the_end(messages)

    assert [event.sequence for event in events_of(live)] == list(range(4, 157))
    assert kinds(live)[-2:] == ["SUCCEEDED", "COMPLETED"]
    assert events_of(live) == list(await project.timeline(task.task_id))[3:]


async def test_row_08_many_watch_the_same_task(project: Project, target: Target) -> None:
    gate = asyncio.Event()
    task = await project.subscribe(post(target.script("/hook", held(gate))))
    await target.received("/hook")
    watches = [asyncio.create_task(to_the_end(project.watch(task.task_id))) for _ in range(20)]
    gate.set()

    told = await asyncio.gather(*watches)
    _, events = await project.ended(task.task_id)
    assert all(events_of(messages) == list(events) for messages in told)


async def test_row_08_each_resume_token_gives_exactly_the_rest(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(target.script("/hook", status(500), OK), retry_policy=retries(1), repeat_policy=repeats(1))
    )
    everything = await to_the_end(project.watch(task.task_id))
    all_events = await project.timeline(task.task_id)

    for place, message in enumerate(everything):
        had = len(events_of(everything[: place + 1]))
        rest = await to_the_end(project.watch(task.task_id, message.resume_token))
        assert kinds(rest)[0] == "snapshot"
        assert kinds(rest)[-1] == "synced"
        assert events_of(rest) == list(all_events)[had:]


async def test_row_08_watch_refuses_unknown_tasks_and_foreign_tokens(
    project: Project, target: Target
) -> None:
    refused = await refusal(project.watch("nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    tasks = [await project.subscribe(post(target.url("/hook"))) for _ in range(2)]
    messages = await to_the_end(project.watch(tasks[0].task_id))
    for token in (messages[-1].resume_token, "nonsense"):
        refused = await refusal(project.watch(tasks[1].task_id, token))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "RESUME_TOKEN_INVALID",
        )


async def test_row_08_a_token_from_before_a_purge_is_refused_and_not_moved(
    project: Project, target: Target
) -> None:
    await project.subscribe(post(target.url("/hook"), task_id="mine"))
    token = (await to_the_end(project.watch("mine")))[-1].resume_token
    await project.purge("mine")
    await project.subscribe(post(target.url("/hook"), task_id="mine"))
    await project.ended("mine")

    refused = await refusal(project.watch("mine", token))

    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")


async def test_row_08_watch_goes_on_across_a_restart_without_gap_or_repeat(tmp_path: Path) -> None:
    async with listening() as target:
        with Server(tmp_path, *LOOPBACK) as server:
            async with connected(server.address) as channel:
                project = await register(channel)
                task = await project.subscribe(
                    post(
                        target.script("/hook", status(500), OK),
                        retry_policy=retries(1),
                        repeat_policy=repeats(1, HOUR_MS),
                    )
                )
                before: list[WatchResponse] = []
                async with aclosing(project.watch(task.task_id)) as messages:
                    while not before or kinds(before)[-1] != "REPEAT_SCHEDULED":
                        before += await following(messages, 1)
                    # One that is open while the server stops is told to come back.
                    stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                    refused = await refusal(messages)
                    assert (refused.code, refused.reason) == (
                        grpc.StatusCode.UNAVAILABLE,
                        "SHUTTING_DOWN",
                    )
                    await stopping
            await asyncio.to_thread(server.start)
            async with connected(server.address) as channel:
                project = project.on(channel)
                async with aclosing(project.watch(task.task_id, before[-1].resume_token)) as messages:
                    after_restart = await following(messages, 2)
                    assert kinds(after_restart) == ["snapshot", "synced"]
                    await project.run(task.task_id)
                    after_restart += await to_the_end(messages)
                task, events = await project.ended(task.task_id)
                assert events_of([*before, *after_restart]) == list(events)
                assert kinds(after_restart)[2:] == ["DISPATCHED", "SUCCEEDED", "COMPLETED"]
                assert state_name(task) == "COMPLETED"
        assert len(target.at("/hook")) == 3
