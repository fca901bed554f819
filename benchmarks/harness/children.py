"""Processes that a benchmark starts, and ends whatever happens."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.model import BenchmarkFailed

_STOP_TIMEOUT_S = 15.0
_LOG_LINES = 20
#: The longest line that is read: latencies of many calls are on one.
_LINE_BYTES = 64 * 1_024 * 1_024


class Child:
    """A process of ours. What it writes to stderr is in its log, what it writes to stdout is for `line`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def line(self, timeout_s: float) -> str:
        """Return the next line that it prints.

        Raises:
            BenchmarkFailed: it ended instead, or kept silent.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.failure(f"said nothing for {timeout_s:g} s") from None
        if not line:
            raise self.failure("ended")
        return line.decode().rstrip("\n")

    async def document(self, timeout_s: float) -> Any:
        """Return the next line that it prints, as JSON. Raises as `line` does."""
        return json.loads(await self.line(timeout_s))

    async def say(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n".encode())
        await self._process.stdin.drain()

    def interrupt(self) -> None:
        """Ask it to come to an end by itself (SIGINT)."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    async def ended(self, timeout_s: float) -> int:
        """Return its exit status once it has ended. Raises `BenchmarkFailed`: it has not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            raise self.failure(f"did not end within {timeout_s:g} s") from None

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if that is not enough."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def failure(self, what: str) -> BenchmarkFailed:
        """Return the error that says what it did, with the end of its log."""
        last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return BenchmarkFailed("\n  ".join([f"{self._name} {what}:", *last]))


@contextlib.asynccontextmanager
async def running(
    name: str,
    arguments: Sequence[str | Path],
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    """Run a program (an absolute path and its arguments) in `directory` for as long as the block lasts.

    It leads a process group of its own, so that Ctrl-C comes to this process alone, and is told to stop
    by the kernel should this process be killed.
    """
    log = directory / f"{name}.log"
    tied = [sys.executable, "-I", "-S", str(_exec_tied()), str(os.getpid()), *map(str, arguments)]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *tied,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=directory,
            env=_environment(environment or {}),
            start_new_session=True,
            limit=_LINE_BYTES,
        )
    child = Child(name, process, log)
    try:
        yield child
    finally:
        # A run that was cancelled must not leave its processes either.
        await asyncio.shield(child.stop())


def python_module(name: str) -> list[str | Path]:
    """Return the arguments of `running` for a module."""
    return [sys.executable, "-m", name]


def _exec_tied() -> Path:
    """Find the server's own way to run a program that ends with its parent."""
    with resources.as_file(resources.files("kuueri_grpc.store") / "exec_tied.py") as path:
        return path


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without settings and credentials of kuueri, with `additions`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKS_", "KUUERI_"))}
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [here, kept.get("PYTHONPATH", "")]))
    return kept | {"PYTHONPATH": path} | dict(additions)
