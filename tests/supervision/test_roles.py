"""Processes that only answer calls, and processes that only run tasks."""

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.caller import connected, of_type, post, register, state_name
from tests.acceptance.targets import Target, held
from tests.supervision.processes import serving

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_each_does_what_it_is_for(tmp_path: Path, target: Target, store: str, workers: str) -> None:
    options = ("--redis-url", store, "--workers", workers)
    async with serving(tmp_path, *options, "--roles", "api", name="api") as api:
        await api.ready()
        assert api.printed[0] == f"kuueri is ready on {api.address} (roles: api; external store)"
        async with connected(api.address) as channel:
            project = await register(channel)
            waiting = await project.subscribe(post(target.url("/works")))
            cancelled = await project.subscribe(post(target.script("/held", held(asyncio.Event()))))
            async with serving(tmp_path, *options, "--roles", "scheduler", name="scheduler") as scheduler:
                await scheduler.ready()
                assert scheduler.printed == [
                    "kuueri is ready, without gRPC (roles: scheduler; external store)"
                ]
                # Watched where it is not run.
                task, events = await project.ended(waiting.task_id)
                assert state_name(task) == "COMPLETED"
                (exchange,) = await target.received("/held")
                # Revoked where it is not run: when Cancel has answered, nothing more is sent.
                await project.cancel(cancelled.task_id)
                await exchange.connection_lost()
                await scheduler.stop()
            (subscribed,), (dispatched,) = of_type(events, "SUBSCRIBED"), of_type(events, "DISPATCHED")
            assert dispatched.create_time.ToMilliseconds() > subscribed.create_time.ToMilliseconds()
            # It was due all the time, and nobody claims any more.
            left = await project.subscribe(post(target.url("/left")))
            assert state_name(await project.get(left.task_id)) == "SCHEDULED"
        await api.stop()
    assert target.at("/left") == []
