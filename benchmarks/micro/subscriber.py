"""A process that subscribes tasks as it is told: by a line `PORT CALLS [TOKEN]`, answered by an empty one.

`python -m benchmarks.micro.subscriber`; used by `authentication`, which wants the CPU of servers alone.
"""

import asyncio
import sys
import time
from typing import Any

import grpc.aio
import uvloop

from benchmarks.harness import workload
from benchmarks.micro.samples import URL
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub

_DUE_IN_MS = 3_600_000
#: Calls under way at a time.
_CONCURRENCY = 8


async def _run() -> None:
    channels: dict[str, grpc.aio.Channel] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        port, calls, *token = line.split()
        if port not in channels:
            channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        metadata = tuple(("authorization", f"Bearer {one}") for one in token)
        await _subscribe(TaskServiceStub(channels[port]), int(calls), metadata)
        print(flush=True)


async def _subscribe(stub: Any, calls: int, metadata: tuple[tuple[str, str], ...]) -> None:
    prefix, due_ms = workload.new_prefix(), time.time_ns() // 1_000_000 + _DUE_IN_MS
    tasks = iter([workload.build_task(URL, prefix, index, due_ms) for index in range(calls)])

    async def call() -> None:
        for task in tasks:
            await stub.Subscribe(pb.SubscribeRequest(task=task), metadata=metadata)

    await asyncio.gather(*(call() for _ in range(_CONCURRENCY)))


if __name__ == "__main__":
    uvloop.run(_run())
