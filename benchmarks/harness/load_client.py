"""`python -m benchmarks.harness.load_client`: makes calls as fast as they are answered.

Reads a `load.Order` as one line of JSON, prepares, prints "ready", waits for another line, calls, and
prints a `load.Outcome` as one line of JSON. Requests are serialised beforehand and answers not parsed: a
client costs as little as it can, since it runs on the cores that the server needs.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator

import grpc.aio
import uvloop

from benchmarks.harness import workload
from benchmarks.harness.client import OWN_CONNECTION
from benchmarks.harness.load import Order, Outcome
from kuueri_grpc.pb import task_service_pb2

_SERVICE = task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name
_CALL_TIMEOUT_S = 60.0


def _requests(order: Order) -> Iterator[bytes]:
    indexes = range(order.first, order.first + order.tasks)
    match order.method:
        case "Subscribe":
            for index in indexes:
                task = workload.build_task(order.url, order.prefix, index, order.due_ms)
                yield task_service_pb2.SubscribeRequest(task=task).SerializeToString()
        case "BatchSubscribe":
            for start in range(indexes.start, indexes.stop, workload.BATCH):
                yield task_service_pb2.BatchSubscribeRequest(
                    tasks=(
                        workload.build_task(order.url, order.prefix, index, order.due_ms)
                        for index in range(start, min(start + workload.BATCH, indexes.stop))
                    )
                ).SerializeToString()
        case "Cancel":
            for index in indexes:
                name = workload.task_id(order.prefix, index)
                yield task_service_pb2.CancelRequest(task_id=name).SerializeToString()


async def _run(order: Order) -> None:
    requests = iter(list(_requests(order)))
    metadata = (("authorization", f"Bearer {order.token}"),)
    channels = [
        grpc.aio.insecure_channel(order.address, options=OWN_CONNECTION) for _ in range(order.connections)
    ]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
        channel.unary_unary(
            f"/{_SERVICE}/{order.method}", request_serializer=None, response_deserializer=None
        )
        for channel in channels
    ]
    latencies_ms: list[float] = []

    async def lane(call: "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]") -> None:
        for request in requests:
            begun = time.perf_counter()
            await call(request, metadata=metadata, timeout=_CALL_TIMEOUT_S)
            latencies_ms.append((time.perf_counter() - begun) * 1_000)

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu_before = os.times()
    begin_s = time.time()
    await asyncio.gather(*map(lane, itertools.islice(itertools.cycle(calls), order.in_flight)))
    end_s = time.time()
    cpu_after = os.times()
    cpu_s = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    print(json.dumps(dataclasses.asdict(Outcome(begin_s, end_s, cpu_s, sorted(latencies_ms)))), flush=True)
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    uvloop.run(_run(Order(**json.loads(sys.stdin.readline()))))
