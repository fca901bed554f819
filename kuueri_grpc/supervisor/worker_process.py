"""The process of a worker: how it is started, and that some are there before there is anything to do."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator

from kuueri_grpc.process.environment import without_settings
from kuueri_grpc.process.handover import LINE_LIMIT

_WORKER = ("-m", "kuueri_grpc.worker")


async def start_worker() -> asyncio.subprocess.Process:
    """Start a process that waits for its order on standard input. Raises `OSError`.

    The supervisor uses no gRPC: a child that uvloop starts beside gRPC's threads may crash at once.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *_WORKER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=LINE_LIMIT,
        # It is told its settings on standard input.
        env=without_settings(os.environ),
        # Ctrl-C at the terminal comes to the supervisor alone, which then stops the workers in order.
        start_new_session=True,
    )


@contextlib.asynccontextmanager
async def started_ahead(count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Start workers before they can be told anything: they import what they need while the store starts.

    Whoever takes one out of the list answers for it. What is in the list when the block ends is killed: it
    has had no order, so there is nothing that it could lose.

    Raises:
        OSError: one cannot be started.
    """
    workers: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(count):
            workers.append(await start_worker())  # noqa: PERF401  those that were started end with the block
        yield workers
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()
