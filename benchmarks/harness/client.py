"""A client of the server under measurement."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence

import grpc
import grpc.aio

from benchmarks.harness import workload
from benchmarks.model import BenchmarkFailed
from kuueri_grpc.pb import project_service_pb2, task_service_pb2
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub

Metadata = tuple[tuple[str, str], ...]

#: Without a pool of its own each, channels to one address share a connection, also one that was lost.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
_CALL_TIMEOUT_S = 30.0
_POLL_S = 0.05
_PROJECT_ADDRESS = "bench@example.com"


class Client:
    """One project's calls over one connection."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.token = token
        self.metadata: Metadata = (("authorization", f"Bearer {token}"),)
        self.tasks = TaskServiceStub(channel)
        self._projects = ProjectServiceStub(channel)

    async def subscribe(self, url: str, prefix: str, dues_ms: Sequence[int]) -> dict[str, int]:
        """Subscribe a task for each due time and return id -> due time, as the server has it (ms).

        Raises:
            BenchmarkFailed: a task was refused.
        """
        return await self.subscribe_batches(workload.batches(url, prefix, dues_ms))

    async def subscribe_batches(
        self, requests: Iterable[task_service_pb2.BatchSubscribeRequest]
    ) -> dict[str, int]:
        """Subscribe what the calls ask for. Returns and raises as `subscribe` does."""
        due_ms: dict[str, int] = {}
        for request in requests:
            response = await self.tasks.BatchSubscribe(
                request, metadata=self.metadata, timeout=_CALL_TIMEOUT_S
            )
            for result in response.results:
                if not result.HasField("task"):
                    raise BenchmarkFailed(f"a task was refused: {result.error.message}")
                due_ms[result.task.task_id] = result.task.schedule_time.ToMilliseconds()
        return due_ms

    async def live_tasks(self) -> int:
        """Return how many tasks have not ended."""
        response = await self._projects.GetProject(
            project_service_pb2.GetProjectRequest(), metadata=self.metadata, timeout=_CALL_TIMEOUT_S
        )
        return int(response.project.task_in_queue)

    async def all_ended(self, timeout_s: float, others: int = 0) -> bool:
        """Return when every task but `others` has ended: nothing is sent any more. False: not in time."""
        deadline = time.monotonic() + timeout_s
        while (live := await self.live_tasks()) > others:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        return live <= others


@contextlib.asynccontextmanager
async def connected(address: str, token: str | None = None) -> AsyncIterator[Client]:
    """Call on behalf of a project, of a new one unless a token is given, for as long as the block lasts."""
    async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        # Beside a process that was just killed, a connection may be reset once more.
        await asyncio.wait_for(channel.channel_ready(), _CALL_TIMEOUT_S)
        if token is None:
            registered = await ProjectServiceStub(channel).Register(
                project_service_pb2.RegisterRequest(email=_PROJECT_ADDRESS), timeout=_CALL_TIMEOUT_S
            )
            token = registered.token
        yield Client(channel, token)
