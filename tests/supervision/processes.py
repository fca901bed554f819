"""`kuueri serve` as a process, with its descendants: to be signalled, killed, and waited for."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from kuueri_grpc.store.embedded import EmbeddedValkey
from tests.acceptance.served import PATIENCE_S, environment
from tests.keys import ENVIRONMENT

READY = re.compile(r"kuueri is ready(?: on (\S+:\d+))?")


class Served:
    """A running `kuueri serve`. What it prints and logs is read at once, and can be waited for."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.address = ""
        self.log: list[str] = []
        self.printed: list[str] = []
        self._known: set[int] = set()
        self._news = asyncio.Condition()
        self._readers = [
            asyncio.create_task(self._read(process.stderr, self.log)),
            asyncio.create_task(self._read(process.stdout, self.printed)),
        ]

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            async with self._news:
                lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    @property
    def store_url(self) -> str:
        """Where its embedded store listens."""
        return EmbeddedValkey(self.data_dir).url

    async def logged(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Return the `count`-th line of its log in which a pattern is found, when it is there."""
        return await self._line(self.log, re.compile(pattern), count)

    async def ready(self) -> "Served":
        """Return when it has said that it is ready."""
        found = await self._line(self.printed, READY, 1)
        self.address = found[1] or ""
        return self

    async def _line(self, lines: list[str], pattern: re.Pattern[str], count: int) -> re.Match[str]:
        def found() -> list[re.Match[str]]:
            return [match for line in lines if (match := pattern.search(line))]

        def over() -> bool:
            return len(found()) >= count or all(reader.done() for reader in self._readers)

        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(over), PATIENCE_S)
            except TimeoutError:
                raise AssertionError(f"no {pattern.pattern!r} in time:\n{self.story}") from None
        assert len(found()) >= count, f"it ended without {pattern.pattern!r}:\n{self.story}"
        return found()[count - 1]

    @property
    def story(self) -> str:
        return "\n".join([*self.printed, *self.log])

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Return its exit status when it has ended and said all it had to say."""
        async with asyncio.timeout(PATIENCE_S):
            status = await self.process.wait()
            await asyncio.gather(*self._readers)
        return status

    async def stop(self) -> None:
        """Stop it as an init system does; nothing of it is left."""
        family = self.family()
        self.send(signal.SIGTERM)
        assert await self.ended() == 0, self.story
        await all_gone(family)

    def family(self) -> list[int]:
        """Process ids of all that it has started and that run."""
        running = descendants(self.process.pid)
        self._known.update(running)
        return running

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return [pid for pid in self.family() if b"kuueri_grpc.worker" in proc(pid, "cmdline")]

    def store_process(self) -> int:
        """Process id of its embedded store."""
        return int((self.data_dir / "valkey.pid").read_text())

    def kill_all(self) -> None:
        """End everything that was ever known of it."""
        for pid in {self.process.pid, *self._known, *self.family()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    *options: str,
    env: dict[str, str] | None = None,
    name: str = "data",
    descriptors: str = "",
) -> AsyncIterator[Served]:
    """Start `kuueri serve` on a free port; leave nothing of it behind, whatever becomes of the test.

    `descriptors`: arguments of `ulimit` that bound how many it, and each of its processes, may have open.
    """
    data_dir = directory / name
    external = ENVIRONMENT if "--redis-url" in options else {}
    limited = ("/bin/sh", "-c", f'ulimit {descriptors} && exec "$@"', "sh") if descriptors else ()
    process = await asyncio.create_subprocess_exec(
        *(*limited, sys.executable, "-m", "kuueri_grpc.cli", "serve", "--data-dir", str(data_dir)),
        *(() if "--port" in options else ("--port", "0")),
        *("--allow-target", "127.0.0.0/8"),
        *options,
        cwd=directory,
        env=environment(directory, {**external, **(env or {})}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    served = Served(process, data_dir)
    try:
        yield served
    finally:
        served.kill_all()
        await served.ended()


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def proc(pid: int, name: str) -> bytes:
    """Return what the kernel tells of a process, nothing when there is none of that number."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def all_gone(pids: Sequence[int]) -> None:
    """Return when none of these processes runs any more, nor waits for its parent to ask for its status."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(_gone(pid) for pid in pids))
    except TimeoutError:
        running = [pid for pid in pids if proc(pid, "stat")]
        raise AssertionError(f"still running: {running}") from None


async def _gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, end.set)
    try:
        await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
