"""How a benchmark is stopped from outside."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Let SIGTERM end the work as Ctrl-C does: in order, with every process that it started."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task
