"""One process of a server of several; started by the supervisor as `python -m kuueri_grpc.worker`.

It serves until SIGTERM, or until its standard input ends, which means that the supervisor is gone. On
SIGUSR1 it writes to standard error what each of its threads is doing, also when its event loop stands still.
"""

import kuueri_grpc.process.lean  # noqa: F401, I001  before all else

import asyncio
import contextlib
import faulthandler
import os
import select
import signal
import sys
from typing import TextIO

import uvloop

from kuueri_grpc.app import work
from kuueri_grpc.process.collector import wake_collector
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.handover import BEAT_S, LINE_LIMIT, Answer, pack_answer, pack_beat, unpack_order
from kuueri_grpc.process.leave import leave
from kuueri_grpc.process.stop import Stop, stop_signals


async def run() -> None:
    """Serve as the supervisor says, and leave."""
    wake_collector()
    faulthandler.register(signal.SIGUSR1)
    answers = _standard_output()

    def answer(fault: str = "") -> None:
        with contextlib.suppress(OSError):  # there is nobody to hear it
            print(pack_answer(Answer(fault)), file=answers, flush=True)

    with stop_signals() as stop:
        tasks = [asyncio.create_task(_beat(answers.fileno()))]
        supervisor = await _standard_input()
        line = await supervisor.readline()
        if not line.endswith(b"\n"):
            leave(0)  # it is gone already
        order = unpack_order(line)
        tasks.append(asyncio.create_task(_outlive(supervisor, stop)))
        try:
            await work(order.settings, order.admin_socket, stop, on_ready=answer)
        except StartError as error:
            answer(str(error))
            leave(1)
        leave(0)


def _standard_output() -> TextIO:
    """Return standard output, for answers alone: what anything else prints goes to standard error now."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def _beat(answers: int) -> None:
    with contextlib.suppress(OSError):  # there is nobody to hear it
        while True:
            # While the supervisor stands still nobody empties the pipe, and this loop must not wait for it.
            if select.select([], [answers], [], 0)[1]:
                os.write(answers, pack_beat())
            await asyncio.sleep(BEAT_S)


async def _outlive(supervisor: asyncio.StreamReader, stop: Stop) -> None:
    await supervisor.read()
    stop.request(deserted=True)


if __name__ == "__main__":
    uvloop.run(run())
