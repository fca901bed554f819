"""What calls, tasks and timelines look like around an outage."""

import asyncio
from collections.abc import Awaitable

import grpc
import grpc.aio

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, after, post, types
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import Target
from tests.service.statuses import Refusal, refusal

ONE_ATTEMPT = ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]


async def refused_by_outage(call: Awaitable[object]) -> Refusal:
    """Run a call, which must end as an outage of the store does, and return what it said."""
    refused = await refusal(call)
    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.reason == "STORE_UNAVAILABLE"
    assert refused.details["RetryInfo"].retry_delay.ToMilliseconds() > 0
    return refused


def task_to(target: Target, path: str, delay_ms: int = 0) -> task_pb2.Task:
    return post(target.url(path), schedule=after(delay_ms))


async def subscribe_all(project: Project, target: Target, path: str, count: int, delay_ms: int) -> list[str]:
    """Have tasks accepted, each to a path of its own below `path`; return their ids."""
    results = await project.batch([task_to(target, f"{path}/{i}", delay_ms) for i in range(count)])
    return [result.task.task_id for result in results]


async def assert_each_ran_once(project: Project, target: Target, path: str, task_ids: list[str]) -> None:
    """Every task ends, after one attempt that nobody had to repeat, and was delivered once."""
    async with asyncio.timeout(PATIENCE_S):
        for task_id in task_ids:
            task, events = await project.ended(task_id)
            assert types(events) == ONE_ATTEMPT, (task_id, types(events))
            assert task.attempt_count == 1
    received = [exchange.path for exchange in target.exchanges if exchange.path.startswith(f"{path}/")]
    assert sorted(received) == sorted(f"{path}/{i}" for i in range(len(task_ids)))
