"""How a process learns that it is to stop."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StoppedEarly(Exception):
    """The process was told to stop before it served."""


class Stop:
    """A request to stop, which is made once and never taken back.

    `deserted`: it was made by nobody; the supervising process is gone.
    """

    def __init__(self) -> None:
        self._requested = asyncio.Event()
        self.deserted = False

    def request(self, *, deserted: bool = False) -> None:
        """Ask the process to stop."""
        self.deserted = self.deserted or deserted
        self._requested.set()

    async def wait(self) -> None:
        """Return when the process is to stop."""
        await self._requested.wait()

    async def comes_before(self, work: Coroutine[Any, Any, object]) -> bool:
        """Do `work` until it ends or the process is to stop; return whether it was cut short.

        Raises what `work` raised.
        """
        working, stopping = asyncio.create_task(work), asyncio.create_task(self.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            return not working.done()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Give a `Stop` that SIGTERM, SIGINT or SIGHUP requests.

    A second SIGTERM or SIGINT ends the process the hard way. SIGHUP does not: a terminal that is closed may
    send it twice. It is left alone where it was ignored from the start, as under nohup.
    """
    loop = asyncio.get_running_loop()
    stop = Stop()

    def on_signal(number: signal.Signals) -> None:
        stop.request()
        if number != signal.SIGHUP:
            loop.remove_signal_handler(number)

    heeded = [n for n in _SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)
