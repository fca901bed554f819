"""Very many tasks wait, or are due in one instant: calls in between are answered, claims stay bounded.

FAULTS_WAITING (2,000) and FAULTS_DUE (3,000) are how many; docs/faults.md has what larger runs gave.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.request import urlopen

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, after, ms, post, register, timestamp
from tests.acceptance.targets import now_ms
from tests.faults.conftest import Measure
from tests.outages.servers import SERVING, serving
from tests.outages.valkeys import Valkey, free_port

WAITING = int(os.environ.get("FAULTS_WAITING", "2000"))
DUE = int(os.environ.get("FAULTS_DUE", "3000"))
BATCH = 1_000
DAY_MS = 86_400_000

pytestmark = pytest.mark.timeout(240 + (WAITING + DUE) / 100)


class Counter:
    """A target that answers at once, and keeps only how often each path was asked for."""

    def __init__(self, count: int) -> None:
        self.port = 0
        self.counts: dict[bytes, int] = {}
        self.first, self.all = asyncio.Event(), asyncio.Event()
        self._wanted = count

    def take(self, path: bytes) -> None:
        self.counts[path] = self.counts.get(path, 0) + 1
        self.first.set()
        if len(self.counts) == self._wanted:
            self.all.set()


class Connection(asyncio.Protocol):
    """Requests without a body, each of which has come whole when its blank line has."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no children of it

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            self._counter.take(request.split(b" ", 2)[1])
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@asynccontextmanager
async def counting(count: int) -> AsyncIterator[Counter]:
    """Run such a target on a free port."""
    counter = Counter(count)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counter), "127.0.0.1", 0, backlog=1_024)
    counter.port = server.sockets[0].getsockname()[1]
    yield counter
    server.close()


async def subscribe(project: Project, tasks: list[task_pb2.Task]) -> None:
    for start in range(0, len(tasks), BATCH):
        for result in await project.batch(tasks[start : start + BATCH]):
            assert result.WhichOneof("result") == "task", result


async def calls_until(stop: asyncio.Event, project: Project, channel: grpc.aio.Channel) -> int:
    """Ask for health, and subscribe, one after the other, until `stop`; return how often both answered."""
    stub = health_pb2_grpc.HealthStub(channel)
    answered = 0
    while not stop.is_set():
        answer = await stub.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert answer.status == SERVING
        await project.subscribe(post("http://127.0.0.1:9/", schedule=after(DAY_MS)))
        answered += 1
    return answered


def largest_claim(port: int) -> float:
    """Return the upper bound of the largest claim call that there was."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    buckets = re.findall(r'kuueri_claim_tasks_bucket\{le="([^"]+)"\} (\S+)', text)
    total = max(float(count) for _, count in buckets)
    return min(float(bound) for bound, count in buckets if float(count) == total)


async def test_a_burst_among_many_that_wait(
    tmp_path: Path, valkey: Valkey, measure: Callable[[], Measure]
) -> None:
    admin = free_port()
    env = {
        "TASKS_SERVICE__QUEUE__LIMIT": "10000000",
        "TASKS_ADMIN_PORT": str(admin),
        "TASKS_SERVICE__LEASE_MS": "5000",
        "TASKS_DATABASE__REDIS__TIMEOUT_MS": "3000",
    }
    async with (
        serving(tmp_path / "server", valkey.url, env) as (_, channel),
        counting(DUE) as target,
    ):
        project = await register(channel)
        began_ms = now_ms()
        later = task_pb2.Schedule(at=timestamp(began_ms + DAY_MS))
        await subscribe(project, [post("http://127.0.0.1:9/", schedule=later) for _ in range(WAITING)])
        # All in one instant, far enough off for all to be subscribed by then on a machine like this one.
        due_ms = now_ms() + 2_000 + DUE // 2 + 5 * (now_ms() - began_ms) * DUE // WAITING
        due = task_pb2.Schedule(at=timestamp(due_ms))
        await subscribe(
            project, [post(f"http://127.0.0.1:{target.port}/{n}", schedule=due) for n in range(DUE)]
        )
        assert now_ms() < due_ms, "this machine is too slow for the instant"
        assert not target.first.is_set()
        async with asyncio.timeout(240 + DUE / 100):
            await target.first.wait()
            began = measure()
            calls = asyncio.create_task(calls_until(target.all, project, channel))
            await target.all.wait()
            answered = await calls
        began.tell(
            lost=0, duplicated=0, note=f"{DUE} due, {WAITING} waiting, {answered} calls of each kind between"
        )

        # Answered while the burst was being sent, not after it.
        assert answered > 1
        assert set(target.counts.values()) == {1}
        assert await asyncio.to_thread(largest_claim, admin) <= 1_000
        sample = (await project.list(state=task_pb2.TASK_STATE_COMPLETED, page_size=10)).tasks
        assert all(ms(task.last_attempt.dispatch_time) >= due_ms for task in sample)
