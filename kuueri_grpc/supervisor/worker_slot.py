"""One worker, and the next one when it has ended."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator

from kuueri_grpc.process.backoff import RestartBackoff
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.handover import Answer, Beat, unpack_answer
from kuueri_grpc.supervisor.admin import Roster
from kuueri_grpc.supervisor.pulse import Pulse
from kuueri_grpc.supervisor.worker_process import start_worker

_log = logging.getLogger(__name__)

#: What a worker that stands still gets to write down where it does.
_LAST_WORDS_S = 0.5


class WorkerSlot:
    """Keeps one worker running.

    Args:
        name: what it is called among the workers of this server.
        order: the line that tells a worker its settings.
        stop_timeout_s: what a worker may take to stop before it is killed.
        silence_s: how long a worker may stand still before it is killed; 0: for ever.
        roster: told when a worker serves, when it stands still, and when it has ended.
        waiting: workers that were started ahead, for all slots; one of them is the first of this slot.
    """

    def __init__(
        self,
        name: str,
        order: bytes,
        stop_timeout_s: float,
        silence_s: float,
        roster: Roster,
        waiting: list[asyncio.subprocess.Process],
    ) -> None:
        self._name = name
        self._order = order
        self._stop_timeout_s = stop_timeout_s
        self._silence_s = silence_s
        self._roster = roster
        self._waiting = waiting
        self._served = asyncio.Event()

    async def served(self) -> None:
        """Return when a worker serves for the first time."""
        await self._served.wait()

    async def keep(self) -> None:
        """Run a worker, and another one whenever it ends, until cancelled; then stop it in order.

        A worker that ends by a signal is started again in any case. One that gives up before it has
        served is not, unless one before it has: it would not fare better the next time.

        Cancelled once more, it kills the worker.

        Raises:
            StartError: a worker cannot start.
        """
        backoff = RestartBackoff()
        while True:
            started = time.monotonic()
            pid, ending = await self._run_one()
            wait_ms = backoff.after(round((time.monotonic() - started) * 1_000))
            _log.warning(
                "%s; another one starts in %d ms",
                ending,
                wait_ms,
                extra={"event": "worker_ended", "pid": pid},
            )
            await asyncio.sleep(wait_ms / 1_000)

    async def _run_one(self) -> tuple[int | None, str]:
        """Run one worker; return its process id (None: it did not start), and how it ended."""
        try:
            process = self._waiting.pop() if self._waiting else await start_worker()
        except OSError as error:
            # Out of memory or of processes for the moment: the others go on, and this is tried again.
            if not self._served.is_set():
                raise StartError(f"a worker process cannot be started: {error}") from error
            return None, f"a worker process could not be started: {error}"
        pulse = Pulse(self._silence_s)
        guarding = asyncio.create_task(self._guard(process, pulse))
        try:
            answer = await self._attend(process, pulse)
            status = await process.wait()
        finally:
            guarding.cancel()
            await self._end(process)
            self._roster.ended(self._name)
        ending = f"worker process {process.pid} {_describe(status)}"
        if answer.fault:
            ending += f": {answer.fault}"
        if status >= 0 and not self._served.is_set():
            raise StartError(answer.fault or f"{ending} before it served; the log says why")
        return process.pid, ending

    async def _guard(self, process: asyncio.subprocess.Process, pulse: Pulse) -> None:
        """Kill a worker that stands still: the kernel gives it its share of connections all the same."""
        silent_s = await pulse.fails()
        _log.error(
            "worker process %d has stood still for %.0f s and is killed; what it was "
            "doing follows, unless it was stopped from outside",
            process.pid,
            silent_s,
            extra={"event": "worker_hung", "pid": process.pid, "seconds": silent_s},
        )
        self._roster.hung()
        _signal(process, signal.SIGUSR1)
        await asyncio.sleep(_LAST_WORDS_S)
        _signal(process, signal.SIGKILL)

    async def _attend(self, process: asyncio.subprocess.Process, pulse: Pulse) -> Answer:
        """Tell a worker its settings; return its answer when it has closed its output, at its end."""
        answer = Answer()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker without pipes")
        with contextlib.suppress(ConnectionError):  # it has ended already
            process.stdin.write(self._order)
            await process.stdin.drain()
        async for line in _lines(process.stdout):
            said = unpack_answer(line)
            if said is None:
                # Its words may be anybody's secret.
                _log.warning(
                    "worker process %d printed %d bytes that are no answer; they are passed over",
                    process.pid,
                    len(line),
                    extra={"event": "worker_printed", "pid": process.pid},
                )
                continue
            pulse.beat()
            if isinstance(said, Beat):
                continue
            answer = said
            if not answer.fault:
                _log.info(
                    "worker process %d serves",
                    process.pid,
                    extra={"event": "worker_serves", "pid": process.pid},
                )
                self._served.set()
                self._roster.serving(self._name)
        return answer

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Return when the process has ended; ask it to, then make it."""
        if process.returncode is not None:
            return
        _signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await process.wait()
        except TimeoutError:
            _log.warning(
                "worker process %d did not stop in time and is killed",
                process.pid,
                extra={"event": "worker_killed", "pid": process.pid},
            )
        finally:
            _signal(process, signal.SIGKILL)
        await process.wait()


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines to the end of the output; of one that is longer than any answer, an empty one."""
    while True:
        try:
            line = await output.readline()
        except ValueError:  # over LINE_LIMIT; the reader has dropped what it had of it
            yield b""
            continue
        if not line:
            return
        yield line


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _describe(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by signal {-status} ({signal.strsignal(-status)})"
