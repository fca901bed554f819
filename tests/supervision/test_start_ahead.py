"""Workers are started before the store is: whatever happens meanwhile, each is used or is gone."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kuueri_grpc.store import data_dir as directory
from kuueri_grpc.supervisor.worker_process import started_ahead
from tests.supervision.processes import Served, all_gone, serving

pytestmark = pytest.mark.timeout(240)


@contextlib.asynccontextmanager
async def held_up(tmp_path: Path) -> AsyncIterator[tuple[Served, contextlib.ExitStack]]:
    """A server of two workers whose store cannot start before the stack is closed: the files are in use."""
    data = tmp_path / "data"
    directory.prepare(data)
    lock = directory.WriterLock(data)
    with contextlib.ExitStack() as hindrance:
        hindrance.callback(lock.close)
        assert lock.acquire()
        async with serving(tmp_path, "--workers", "2") as served:
            await served.logged("waiting for the valkey-server of a killed process")
            yield served, hindrance


async def test_the_workers_that_waited_for_the_store_are_those_that_serve(tmp_path: Path) -> None:
    async with held_up(tmp_path) as (served, hindrance):
        waiting = served.workers()
        assert len(waiting) == 2
        hindrance.close()
        await served.ready()
        assert served.workers() == waiting
        await served.stop()


async def test_one_that_dies_while_it_waits_is_replaced(tmp_path: Path) -> None:
    async with held_up(tmp_path) as (served, hindrance):
        victim, other = served.workers()
        os.kill(victim, signal.SIGKILL)
        hindrance.close()
        await served.ready()
        now = served.workers()
        assert len(now) == 2
        assert victim not in now
        assert other in now
        await served.stop()


async def test_told_to_stop_meanwhile_nothing_is_left(tmp_path: Path) -> None:
    async with held_up(tmp_path) as (served, _):
        assert len(served.workers()) == 2
        await served.stop()
        assert not served.printed


async def test_killed_meanwhile_nothing_is_left(tmp_path: Path) -> None:
    async with held_up(tmp_path) as (served, _):
        waiting = served.workers()
        assert len(waiting) == 2
        served.send(signal.SIGKILL)
        await served.ended()
        await all_gone(waiting)


async def test_one_that_nobody_took_is_killed_at_the_end() -> None:
    async with started_ahead(1) as waiting:
        [worker] = waiting
        assert worker.returncode is None
    assert worker.returncode == -signal.SIGKILL
