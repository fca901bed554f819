"""The target that tasks are sent to. It records arrivals: what the server says of itself does not count."""

import asyncio
import contextlib
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.harness.arrivals import Arrival
from benchmarks.harness.children import Child, python_module, running
from benchmarks.model import BenchmarkFailed, TargetKind

#: The header by which the target knows a task; tasks that are sent the first time carry no other name.
TASK_HEADER = "x-bench-task"
_READY_TIMEOUT_S = 10.0
_POLL_S = 0.05
#: Twice what a target lets its log lag behind.
_FLUSH_S = 0.25
_TEMPLATE = Path(__file__).with_name("nginx.conf.in")


class Target:
    """A target that runs, and its log."""

    def __init__(self, child: Child, port: int, log: Path) -> None:
        self._child = child
        self._log = log
        self.url = f"http://127.0.0.1:{port}/hook"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._child.pid

    async def arrivals(self) -> list[Arrival]:
        """Return all that has arrived until now, of every task ever sent to it."""
        await asyncio.sleep(_FLUSH_S)
        found = []
        for line in self._log.read_bytes().splitlines():
            at_s, task_id, attempt = line.decode().split()
            found.append(Arrival(task_id, int(attempt), float(at_s) * 1_000))
        return found

    async def wait_for(self, count: int, patience_s: float) -> None:
        """Return when `count` more requests have arrived, or none has for `patience_s`."""
        seen, since = 0, time.monotonic()
        with self._log.open("rb") as log:
            log.seek(self._start)
            while seen < count and time.monotonic() < since + patience_s:
                await asyncio.sleep(_POLL_S)
                if new := log.read().count(b"\n"):
                    seen, since = seen + new, time.monotonic()

    async def mark(self) -> None:
        """Let `wait_for` count from here on."""
        await asyncio.sleep(_FLUSH_S)
        self._start = self._log.stat().st_size

    _start = 0


def default_target() -> TargetKind:
    """Return nginx where it is installed: it takes a tenth of the CPU per request that Python does."""
    return "nginx" if nginx_path() else "python"


def nginx_path() -> str | None:
    """Return where nginx is installed; distributions put it where only root looks."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.asynccontextmanager
async def receiving(kind: TargetKind, directory: Path, *, delay_s: float = 0.0) -> AsyncIterator[Target]:
    """Run a target for as long as the block lasts. `delay_s`: how long it takes to answer, in Python only."""
    log = directory / "arrivals.log"
    log.touch()
    if kind == "python":
        arguments = [*python_module("benchmarks.harness.python_target"), log, str(delay_s)]
        async with running("target", arguments, directory) as child:
            yield Target(child, int(await child.line(_READY_TIMEOUT_S)), log)
        return
    nginx = nginx_path()
    if nginx is None:
        raise BenchmarkFailed("nginx is not installed; install it, or use --target python")
    port = _free_port()
    configuration = directory / "nginx.conf"
    text = _TEMPLATE.read_text()
    for name, value in {"DIRECTORY": directory, "LOG": log, "PORT": port}.items():
        text = text.replace(f"@{name}@", str(value))
    configuration.write_text(text)
    arguments = [nginx, "-p", directory, "-c", configuration, "-e", "stderr"]
    async with running("target", arguments, directory) as child:
        await _listening(port)
        yield Target(child, port, log)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _listening(port: int) -> None:
    """Return when something listens on the port; nginx does not say so."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise BenchmarkFailed(f"nothing listens on port {port}: nginx did not start") from None
