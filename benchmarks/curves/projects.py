"""`projects`: the same tasks of one project, and of a thousand."""

import dataclasses
from collections.abc import AsyncIterator, Sequence

import grpc.aio

from benchmarks.curves.model import Curve, drain_figure
from benchmarks.harness import workload
from benchmarks.harness.arrivals import deliveries
from benchmarks.harness.client import Client
from benchmarks.harness.stage import PATIENCE_S, Stage, now_ms, staged
from benchmarks.model import BenchmarkFailed, Options, Values
from kuueri_grpc.pb import project_service_pb2
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub

_TASKS = 10_000
_LEAD_MS = 8_000
#: Else one address may not register so many.
_SETTINGS = {"TASKS_MODULE__THROTTLER__REGISTRATIONS": "0"}


async def _run(options: Options, points: Sequence[int], runs: int) -> AsyncIterator[tuple[int, Values]]:
    options = dataclasses.replace(options, settings={**_SETTINGS, **options.settings})
    for point in points:
        for _ in range(runs):
            # A new server each time: one that has sent more is slower, and the last point would pay for it.
            async with staged(options) as stage, grpc.aio.insecure_channel(stage.server.address) as channel:
                yield point, {"drain_rate": await _drain_rate(stage, await _registered(channel, point))}


async def _registered(channel: grpc.aio.Channel, count: int) -> list[Client]:
    projects = ProjectServiceStub(channel)
    requests = (project_service_pb2.RegisterRequest(email=f"bench-{n}@example.com") for n in range(count))
    return [Client(channel, (await projects.Register(request)).token) for request in requests]


async def _drain_rate(stage: Stage, clients: Sequence[Client]) -> float:
    await stage.target.mark()
    due_at_ms, due_ms = now_ms() + _LEAD_MS, dict[str, int]()
    for client in clients:
        due_ms |= await client.subscribe(
            stage.target.url, workload.new_prefix(), [due_at_ms] * (_TASKS // len(clients))
        )
    if now_ms() > due_at_ms:
        raise BenchmarkFailed("tasks were due before the last was subscribed; is the machine busy?")
    await stage.target.wait_for(len(due_ms), PATIENCE_S + _LEAD_MS / 1_000)
    for client in clients:
        await client.all_ended(PATIENCE_S)
    seen = deliveries(await stage.target.arrivals(), due_ms)
    if seen.lost:
        raise BenchmarkFailed(f"{seen.lost} tasks of {len(clients):,} projects did not arrive")
    return seen.arrived / seen.drain_s


CURVE = Curve(
    "projects",
    "projects",
    f"{_TASKS:,} tasks, spread evenly over projects",
    (1, 10, 100, 1_000),
    (drain_figure(f"{_TASKS:,} tasks"),),
    _run,
)
