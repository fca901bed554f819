"""A store of a test's own, over TCP: killed, frozen, filled, restarted as the test likes."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from kuueri_grpc.store.embedded import server_binary
from tests.acceptance.served import PATIENCE_S

_PROBE_S = 0.02


def free_port() -> int:
    """Return a loopback port that nothing listened on a moment ago.

    None of those that systems give out by themselves, as a connection of another test would take it while
    what listens on it is down; nor of those that `tests/cluster/nodes.py` takes.
    """
    while True:
        port = random.randrange(30_000, 32_700)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Valkey:
    """One valkey-server on a fixed port. `options` are its configuration: `appendonly="yes"`."""

    def __init__(self, directory: Path, binary: Path | None = None, /, **options: object) -> None:
        self.directory = directory
        self._binary = binary or server_binary()
        self.port = free_port()
        # Not every second: with a slow disk a store that is killed would lose what it acknowledged.
        self.options = {"appendonly": "yes", "appendfsync": "always", "save": "", **options}
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Redis:
        """Return a client that neither waits for long nor repeats anything."""
        return Redis(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=PATIENCE_S, **options)

    def spawn(self) -> None:
        """Start it, and do not wait for it."""
        assert self._process is None
        given = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.directory,
            "enable-protected-configs": "local",
        }
        given |= {name.replace("_", "-"): value for name, value in self.options.items()}
        arguments = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        with (self.directory / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def start(self) -> None:
        """Start it; return when it answers, whatever it answers."""
        self.spawn()
        await self.answers()

    async def answers(self) -> None:
        """Return when it answers, be it that it is loading."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    assert self._process.poll() is None, (self.directory / "valkey.log").read_text()
                    await asyncio.sleep(_PROBE_S)
                else:
                    writer.close()
                    return

    async def loaded(self) -> None:
        """Return when it has read its data."""
        async with asyncio.timeout(PATIENCE_S), self.client() as client:
            while (await client.info("persistence"))["loading"]:  # noqa: ASYNC110  nobody signals it
                await asyncio.sleep(_PROBE_S)

    def kill(self) -> None:
        """End it as a crash does."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait(PATIENCE_S)

    def freeze(self) -> None:
        """Stop it from doing anything; its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def lose_data(self) -> None:
        """Delete what it kept; it must not run."""
        assert self._process is None
        shutil.rmtree(self.directory)
        self.directory.mkdir()

    def stop(self) -> None:
        """End it, whatever state it is in, if it runs."""
        if self._process is not None:
            self.thaw()
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)


@asynccontextmanager
async def running(directory: Path, **options: object) -> AsyncIterator[Valkey]:
    """Run a server until the block ends."""
    valkey = Valkey(directory, **options)
    await valkey.start()
    try:
        yield valkey
    finally:
        valkey.stop()
