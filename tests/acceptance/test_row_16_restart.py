"""Row 16: a killed server loses nothing: what fell due meanwhile runs late, what was in flight again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kuueri_grpc.pb.task_pb2 import Task
from tests.acceptance.caller import (
    Project,
    after,
    connected,
    ms,
    of_type,
    path_of,
    post,
    reason_name,
    register,
    repeats,
    retries,
    state_name,
    types,
)
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.targets import OK, Target, held, in_time, passed, status

LEASE_MS = 3_000


@pytest.fixture
def mortal_server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone, which takes over the attempts of a dead one after three seconds."""
    with Server(tmp_path, *LOOPBACK, env={"TASKS_SERVICE__LEASE_MS": str(LEASE_MS)}) as server:
        yield server


@asynccontextmanager
async def registered(server: Server) -> AsyncIterator[Project]:
    """A new project on the server, which is started if it does not run."""
    if not server.running:
        await asyncio.to_thread(server.start)
    async with connected(server.address) as channel:
        yield await register(channel)


async def test_row_16_what_fell_due_while_the_server_was_dead_runs_late(
    mortal_server: Server, target: Target
) -> None:
    async def subscribed_and_killed(wait_ms: int) -> tuple[Project, Task, Task, Task]:
        async with registered(mortal_server) as project:
            overdue, later, paused = [
                await project.subscribe(post(target.url(f"/{name}-{wait_ms}"), schedule=after(delay_ms)))
                for name, delay_ms in (("overdue", wait_ms), ("later", wait_ms + 2_500), ("paused", wait_ms))
            ]
            await project.pause(paused.task_id)
        await asyncio.to_thread(mortal_server.kill)
        return project, overdue, later, paused

    project, overdue, later, paused = await in_time(subscribed_and_killed)
    await passed(ms(overdue.schedule_time))
    await asyncio.to_thread(mortal_server.start)
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        for accepted in (overdue, later):
            task, events = await project.ended(accepted.task_id)
            assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]
            assert (state_name(task), task.attempt_count) == ("COMPLETED", 1)
            (exchange,) = target.at(path_of(accepted))
            assert exchange.received_ms >= ms(accepted.schedule_time)
        assert state_name(await project.get(paused.task_id)) == "PAUSED"
    await asyncio.to_thread(mortal_server.stop)
    # The server has ended: nothing can come any more.
    assert [len(target.at(path_of(accepted))) for accepted in (overdue, later, paused)] == [1, 1, 0]


async def test_row_16_what_waited_for_a_retry_or_a_repetition_goes_on_where_it_was(
    mortal_server: Server, target: Target
) -> None:
    async def killed_while_they_wait(wait_ms: int) -> tuple[Project, Task, Task]:
        async with registered(mortal_server) as project:
            failing, url = target.script(f"/a-{wait_ms}", status(500), OK), target.url(f"/b-{wait_ms}")
            retrying = await project.subscribe(post(failing, retry_policy=retries(1, wait_ms)))
            repeating = await project.subscribe(post(url, repeat_policy=repeats(1, wait_ms)))
            await project.until(retrying.task_id, "RETRY_SCHEDULED")
            await project.until(repeating.task_id, "REPEAT_SCHEDULED")
        await asyncio.to_thread(mortal_server.kill)
        return project, retrying, repeating

    project, retrying, repeating = await in_time(killed_while_they_wait)
    await asyncio.to_thread(mortal_server.start)
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        for accepted in (retrying, repeating):
            task, _ = await project.ended(accepted.task_id)
            assert (state_name(task), task.attempt_count) == ("COMPLETED", 2)
            assert [exchange.attempt for exchange in target.at(path_of(accepted))] == [1, 2]


async def test_row_16_what_was_in_flight_is_delivered_again_as_the_same_attempt(
    mortal_server: Server, target: Target
) -> None:
    never = asyncio.Event()
    async with registered(mortal_server) as project:
        task = await project.subscribe(
            post(target.script("/hook", held(never), status(500), OK), retry_policy=retries(1))
        )
        (lost,) = await target.received("/hook")
    await asyncio.to_thread(mortal_server.kill)
    await lost.connection_lost()
    await asyncio.to_thread(mortal_server.start)
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        task, events = await project.ended(task.task_id)

    assert types(events) == [
        "SUBSCRIBED",
        *["DISPATCHED", "RECOVERED"],
        *["DISPATCHED", "ERRORED", "RETRY_SCHEDULED"],
        *["DISPATCHED", "SUCCEEDED", "COMPLETED"],
    ]
    (recovered,) = of_type(events, "RECOVERED")
    assert (recovered.attempt, reason_name(recovered)) == (1, "LEASE_LOST")
    assert recovered.HasField("next_time")
    # The one retry was still there after the loss: a fault of the server uses up none.
    assert (task.attempt_count, task.retry_count) == (2, 1)
    lost, again, retry = target.at("/hook")
    assert [exchange.attempt for exchange in (lost, again, retry)] == [1, 1, 2]
    assert lost.headers["webhook-id"] == again.headers["webhook-id"]
    assert "x-kuueri-tasks-retry-count" not in again.headers
    assert retry.headers["x-kuueri-tasks-retry-count"] == "1"


async def test_row_16_what_was_canceled_and_what_had_ended_stays_so(
    mortal_server: Server, target: Target
) -> None:
    async with registered(mortal_server) as project:

        async def subscribed_and_canceled(wait_ms: int) -> Task:
            task = post(target.url(f"/canceled-{wait_ms}"), schedule=after(wait_ms))
            accepted = await project.subscribe(task)
            await project.cancel(accepted.task_id)
            return accepted

        canceled = await in_time(subscribed_and_canceled)
        done = await project.subscribe(post(target.url("/done")))
        before, _ = await project.ended(done.task_id)
    await asyncio.to_thread(mortal_server.kill)
    await passed(ms(canceled.schedule_time))
    await asyncio.to_thread(mortal_server.start)
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        assert state_name(await project.get(canceled.task_id)) == "CANCELED"
        assert await project.get(done.task_id) == before
    await asyncio.to_thread(mortal_server.stop)
    assert [len(target.at(path_of(accepted))) for accepted in (canceled, done)] == [0, 1]
