"""The loops that run for as long as a process serves."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from kuueri_grpc.process.backoff import RestartBackoff
from kuueri_grpc.process.stop import Stop

_log = logging.getLogger(__name__)

Loop = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def running(loops: Iterable[Loop], stop: Stop) -> AsyncIterator[list[BaseException]]:
    """Run loops until the block ends; gives the list of what they broke down with.

    One that ends with an `OSError` is run again: the process has met a lack (of file descriptors, memory,
    processes), which may pass. One that breaks down otherwise asks the process to stop; none dies in silence.
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

    tasks = [asyncio.create_task(_outliving_lacks(loop)) for loop in loops]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield failures
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outliving_lacks(loop: Loop) -> object:
    backoff = RestartBackoff()
    clock = asyncio.get_running_loop()
    while True:
        began_s = clock.time()
        try:
            return await loop()
        except OSError as error:
            wait_ms = backoff.after(round((clock.time() - began_s) * 1_000))
            _log.warning(
                "a loop of the server ended and is run again in %d ms: %s",
                wait_ms,
                error,
                extra={"event": "loop_run_again"},
            )
        await asyncio.sleep(wait_ms / 1_000)
