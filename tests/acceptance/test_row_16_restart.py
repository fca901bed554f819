"""Row 16: a killed server loses nothing: what fell due meanwhile runs late, what was in flight again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.caller import (
    Project,
    after,
    connected,
    ms,
    of_type,
    post,
    reason_name,
    register,
    repeats,
    retries,
    state_name,
    types,
)
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.targets import OK, Target, held, passed, status

LEASE_MS = 3_000


@pytest.fixture
def mortal_server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone, which takes over the attempts of a dead one after three seconds."""
    with Server(tmp_path, *LOOPBACK, env={"TASKS_SERVICE__LEASE_MS": str(LEASE_MS)}) as server:
        yield server


@asynccontextmanager
async def registered(server: Server) -> AsyncIterator[Project]:
    async with connected(server.address) as channel:
        yield await register(channel)


async def killed_and_started(server: Server, *, overdue_ms: int = 0) -> None:
    """Kill the server and start it again, not before an instant has passed."""
    await asyncio.to_thread(server.kill)
    await passed(overdue_ms)
    await asyncio.to_thread(server.start)


async def test_row_16_what_fell_due_while_the_server_was_dead_runs_late(
    mortal_server: Server, target: Target
) -> None:
    async with registered(mortal_server) as project:
        overdue = await project.subscribe(post(target.url("/overdue"), schedule=after(1_500)))
        later = await project.subscribe(post(target.url("/later"), schedule=after(4_000)))
        paused = await project.subscribe(post(target.url("/paused"), schedule=after(1_500)))
        await project.pause(paused.task_id)
    await killed_and_started(mortal_server, overdue_ms=ms(overdue.schedule_time))
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        for accepted in (overdue, later):
            task, events = await project.ended(accepted.task_id)
            assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]
            assert (state_name(task), task.attempt_count) == ("COMPLETED", 1)
            (exchange,) = target.at("/overdue" if accepted is overdue else "/later")
            assert exchange.received_ms >= ms(accepted.schedule_time)
        assert state_name(await project.get(paused.task_id)) == "PAUSED"
    await asyncio.to_thread(mortal_server.stop)
    # The server has ended: nothing can come any more.
    assert sorted(exchange.path for exchange in target.exchanges) == ["/later", "/overdue"]


async def test_row_16_what_waited_for_a_retry_or_a_repetition_goes_on_where_it_was(
    mortal_server: Server, target: Target
) -> None:
    async with registered(mortal_server) as project:
        retrying = await project.subscribe(
            post(target.script("/retrying", status(500), OK), retry_policy=retries(1, 1_500))
        )
        repeating = await project.subscribe(post(target.url("/repeating"), repeat_policy=repeats(1, 1_500)))
        await project.until(retrying.task_id, "RETRY_SCHEDULED")
        await project.until(repeating.task_id, "REPEAT_SCHEDULED")
    await killed_and_started(mortal_server)
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        for accepted, path in ((retrying, "/retrying"), (repeating, "/repeating")):
            task, _ = await project.ended(accepted.task_id)
            assert (state_name(task), task.attempt_count) == ("COMPLETED", 2)
            assert [exchange.attempt for exchange in target.at(path)] == [1, 2]


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
        canceled = await project.subscribe(post(target.url("/canceled"), schedule=after(1_500)))
        await project.cancel(canceled.task_id)
        done = await project.subscribe(post(target.url("/done")))
        before, _ = await project.ended(done.task_id)
    await killed_and_started(mortal_server, overdue_ms=ms(canceled.schedule_time))
    async with connected(mortal_server.address) as channel:
        project = project.on(channel)
        assert state_name(await project.get(canceled.task_id)) == "CANCELED"
        assert await project.get(done.task_id) == before
    await asyncio.to_thread(mortal_server.stop)
    assert [exchange.path for exchange in target.exchanges] == ["/done"]
