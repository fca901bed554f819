"""`kuueri instances` shows who serves a store."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from kuueri_grpc import __version__
from kuueri_grpc.store import keys
from tests.acceptance.caller import connected, post, register
from tests.acceptance.served import PATIENCE_S, environment
from tests.acceptance.targets import Target, held
from tests.supervision.processes import serving

pytestmark = pytest.mark.timeout(240)

Instances = list[dict[str, Any]]


async def kuueri_instances(directory: Path, *options: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuueri_grpc.cli", "instances", *options),
        env=environment(directory),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def listed(directory: Path, *options: str) -> Instances:
    status, out, err = await kuueri_instances(directory, "--json", *options)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


async def seen(store: str, holds: Callable[[Instances], bool]) -> Instances:
    """Return what the instances say of themselves when it is as a test wants it; looks at every heartbeat."""
    async with asyncio.timeout(PATIENCE_S), Redis.from_url(store) as client, client.monitor() as monitor:
        async for command in monitor.listen():
            if keys.INSTANCES in command["command"]:
                async with Redis.from_url(store) as reader:
                    details = await reader.hgetall(keys.INSTANCE_DETAILS)
                instances = [json.loads(text) for text in details.values()]
                if holds(instances):
                    return instances
    raise AssertionError("the store has ended")


async def test_processes_announce_themselves_and_share_the_partitions(
    tmp_path: Path, target: Target, store: str
) -> None:
    options = ("--redis-url", store)
    async with (
        serving(tmp_path, *options, "--workers", "2", name="two") as two,
        serving(tmp_path, *options, "--workers", "1", "--roles", "api", name="one") as one,
    ):
        await two.ready()
        await one.ready()
        gate = asyncio.Event()
        async with connected(one.address) as channel:
            project = await register(channel)
            task = await project.subscribe(post(target.script("/held", held(gate))))
            await target.received("/held")
            shared = await seen(
                store,
                lambda now: (
                    sum(i["partitions"] for i in now) == 256
                    and sum(i["partitions"] > 0 for i in now) == 2
                    and sum(i["in_flight"] for i in now) == 1
                ),
            )
            assert {i["pid"] for i in shared} == {*two.workers(), one.process.pid}

            instances = await listed(tmp_path, *options)
            assert {i["instance_id"] for i in instances} == {i["instance_id"] for i in shared}
            assert {i["version"] for i in instances} == {__version__}
            assert {i["host"] for i in instances} == {os.uname().nodename}
            by_pid = {i["pid"]: i for i in instances}
            assert by_pid[one.process.pid]["roles"] == ["api"]
            assert [by_pid[pid]["roles"] for pid in two.workers()] == [["api", "scheduler"]] * 2
            assert all(0 <= i["heartbeat_age_ms"] < 30_000 for i in instances)
            gate.set()
            await project.ended(task.task_id)

        # One that is killed is replaced, and its partitions are taken over.
        gone = two.workers()[0]
        os.kill(gone, signal.SIGKILL)
        await two.logged("worker process \\d+ serves", count=3)
        await seen(store, lambda now: sum(i["partitions"] for i in now if i["pid"] in two.workers()) == 256)
        await two.stop()
        await one.stop()
    left = await listed(tmp_path, *options)
    assert {i["pid"] for i in left} <= {gone}, "one that stopped in order is still there"


async def test_the_embedded_store_is_found_by_its_directory(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as served:
        await served.ready()
        place = ("--data-dir", str(served.data_dir))
        await seen(served.store_url, lambda now: len(now) == 2)
        status, out, err = await kuueri_instances(tmp_path, *place)
        assert (status, err) == (0, "")
        heading, *rows = out.splitlines()
        assert heading.split()[:5] == ["INSTANCE", "VERSION", "HOST", "PID", "ROLES"]
        assert {int(row.split()[3]) for row in rows} == set(served.workers())
        await served.stop()
    status, out, err = await kuueri_instances(tmp_path, *place)
    assert (status, out) == (3, "")
    assert "name its directory with --data-dir" in err
