"""The loops that run for as long as a process serves."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from kuueri_grpc.process.stop import Stop

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def running(
    loops: Iterable[Coroutine[Any, Any, object]], stop: Stop
) -> AsyncIterator[list[BaseException]]:
    """Run loops until the block ends; gives the list of what they broke down with.

    One that breaks down asks the process to stop; none dies in silence.
    """
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[object]) -> None:
        if task.cancelled():
            return
        if error := task.exception():
            _log.error(
                "a loop of the server broke down; it stops",
                exc_info=error,
                extra={"event": "loop_broke_down"},
            )
            failures.append(error)
            stop.request()

    tasks = [asyncio.create_task(loop) for loop in loops]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield failures
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
