"""`python -m benchmarks.harness.python_target LOG DELAY_S`: logs every request, and answers it after a delay.

The log is that of the nginx target: arrival (s), task, attempt. It prints its port when it is ready. HTTP is
read no further than a target needs that only its own server calls: a request with a Content-Length.
"""

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import BinaryIO, cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_FLUSH_S = 0.1
_BACKLOG = 4_096
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TASK = re.compile(rb"\r\nx-bench-task: *([^\r]+)", re.IGNORECASE)
_ATTEMPT = re.compile(rb"\r\nx-kuueri-tasks-attempt: *(\d+)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """One kept-alive connection; requests on it may come in pieces, or several at once."""

    def __init__(self, log: BinaryIO, delay_s: float) -> None:
        self._log = log
        self._delay_s = delay_s
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's transports have the methods without the base class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        task, attempt = _TASK.search(head), _ATTEMPT.search(head)
        now_us = time.time_ns() // 1_000
        self._log.write(
            b"%d.%06d %b %b\n"
            % (
                *divmod(now_us, 1_000_000),
                task[1] if task else b"-",
                attempt[1] if attempt else b"-",
            )
        )
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def _serve(path: Path, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    with path.open("wb", buffering=1 << 20) as log:
        server = await loop.create_server(lambda: _Connection(log, delay_s), "127.0.0.1", 0, backlog=_BACKLOG)
        print(server.sockets[0].getsockname()[1], flush=True)
        while True:
            await asyncio.sleep(_FLUSH_S)
            log.flush()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
