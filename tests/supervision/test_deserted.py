"""The supervisor is killed: what its workers tell the callers that they leave behind."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, after, connected, post, register
from tests.acceptance.targets import Target
from tests.supervision.processes import all_gone, serving

pytestmark = pytest.mark.timeout(240)

CHANNELS = 6
#: Calls that are under way on each channel at a time.
CALLS = 8
HOUR_MS = 3_600_000

Statuses = Counter[grpc.StatusCode]


async def call_until_gone(
    call: Callable[[], Awaitable[object]], statuses: Statuses, answered: asyncio.Event, gone: asyncio.Event
) -> None:
    """Call again and again; count how the calls end."""
    while not gone.is_set():
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            statuses[error.code()] += 1
            await asyncio.sleep(0.001)
        else:
            statuses[grpc.StatusCode.OK] += 1
            if statuses[grpc.StatusCode.OK] == CHANNELS * CALLS:
                answered.set()


async def watch_to_the_end(project: Project, statuses: Statuses) -> None:
    try:
        async for _ in project.watch_all():
            pass
    except grpc.aio.AioRpcError as error:
        statuses[error.code()] += 1


@asynccontextmanager
async def callers(
    project: Project, task: task_pb2.Task, address: str, statuses: Statuses
) -> AsyncIterator[asyncio.Event]:
    """Keep calls and watches under way on several connections; gives what is set when many were answered."""
    answered, gone = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connected(address)) for _ in range(CHANNELS)]
        here = [project.on(channel) for channel in channels]
        busy = [
            asyncio.create_task(call_until_gone(call, statuses, answered, gone))
            for one in here
            for call in (
                *[lambda one=one: one.get(task.task_id)] * (CALLS // 2),
                *[lambda one=one: one.subscribe(post("http://127.0.0.1:9/", schedule=after(HOUR_MS)))]
                * (CALLS // 2),
            )
        ]
        watching = [asyncio.create_task(watch_to_the_end(one, statuses)) for one in here]
        yield answered
        gone.set()
        await asyncio.gather(*busy, *watching)


@pytest.mark.parametrize("embedded", [True, False], ids=["embedded", "external"])
async def test_calls_end_with_unavailable(
    tmp_path: Path, target: Target, store: str, *, embedded: bool
) -> None:
    options = ("--workers", "2", *(() if embedded else ("--redis-url", store)))
    env = {"TASKS_SERVICE__QUEUE__LIMIT": "1000000"}
    statuses: Statuses = Counter()
    async with serving(tmp_path, *options, env=env) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task = await project.subscribe(post(target.url("/"), schedule=after(HOUR_MS)))
        family = served.family()
        async with callers(project, task, served.address, statuses) as answered:
            await answered.wait()
            served.send(signal.SIGKILL)
            await all_gone(family)
    assert statuses[grpc.StatusCode.UNAVAILABLE] > 0
    assert statuses.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}, statuses
