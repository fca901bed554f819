"""Pipes for output that nobody reads, or that were closed: the server serves all the same."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.caller import connected, post, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S, environment
from tests.acceptance.targets import Target
from tests.outages.valkeys import free_port
from tests.supervision.processes import all_gone, descendants

pytestmark = pytest.mark.timeout(240)


@contextlib.asynccontextmanager
async def serving(directory: Path, workers: int, stdout: int, stderr: int) -> AsyncIterator[str]:
    """Run a server that logs much, with these as its output; yield where it listens."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuueri_grpc.cli", "serve", "--workers", str(workers), "--port", str(port)),
        *("--data-dir", str(directory / "data"), "--log-level", "DEBUG", *LOOPBACK),
        cwd=directory,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    family: list[int] = []
    try:
        yield f"127.0.0.1:{port}"
        assert process.returncode is None
        family = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
        await all_gone(family)
    finally:
        for pid in {process.pid, *family, *(descendants(process.pid) if process.returncode is None else ())}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


async def runs_tasks(address: str, target: Target) -> None:
    """Run more tasks than fit into a pipe of a page as log lines."""
    async with connected(address) as channel, asyncio.timeout(PATIENCE_S):
        await channel.channel_ready()
        project = await register(channel)
        results = await project.batch([post(target.url("/hook")) for _ in range(100)])
        for result in results:
            await project.ended(result.task.task_id)


def unread_pipe() -> tuple[int, int]:
    """Return a pipe that is full already."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4_096)
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"-" * 512)
    os.set_blocking(writing, True)
    return reading, writing


@pytest.mark.parametrize("workers", [1, 2])
async def test_full_pipes_hold_up_nothing(tmp_path: Path, target: Target, workers: int) -> None:
    pipes = unread_pipe(), unread_pipe()
    try:
        async with serving(tmp_path, workers, pipes[0][1], pipes[1][1]) as address:
            await runs_tasks(address, target)
    finally:
        for descriptor in (*pipes[0], *pipes[1]):
            os.close(descriptor)


@pytest.mark.parametrize("workers", [1, 2])
async def test_closed_pipes_end_nothing(tmp_path: Path, target: Target, workers: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        async with serving(tmp_path, workers, writing, writing) as address:
            await runs_tasks(address, target)
    finally:
        os.close(writing)
