"""What the tests of the embedded store share."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from kuueri_grpc.store import data_dir as directory
from kuueri_grpc.store import embedded, valkey_command
from kuueri_grpc.store.embedded import EmbeddedValkey

HOLDER = Path(__file__).with_name("embedded_holder.py")
PATIENCE_S = 30


async def read(store: EmbeddedValkey, key: str) -> bytes | None:
    async with Redis.from_url(store.url) as client:
        value = await client.get(key)
    assert not isinstance(value, str)
    return value


async def write(store: EmbeddedValkey, key: str, value: str) -> None:
    async with Redis.from_url(store.url) as client:
        await client.set(key, value)


@contextlib.asynccontextmanager
async def holder(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A process that holds a store in `data_dir`, leading a process group, and its server's pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HOLDER), str(data_dir), stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield process, int(await process.stdout.readline())
    finally:
        if process.returncode is None:
            # Rather than killed, so that it stops its server itself, wherever this runs.
            process.send_signal(signal.SIGINT)
            await process.wait()


def end_of(pid: int) -> asyncio.Future[None]:
    """Follow a process that need not be our child: the result is there when it has ended."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(pid)

    def on_end() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        future.set_result(None)

    loop.add_reader(descriptor, on_end)
    return future


def assert_gone(pid: int) -> None:
    # Our own child, so its number is free only when it was waited for as well.
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def log_of(data_dir: Path) -> str:
    return (data_dir / "valkey.log").read_text()


def names_in(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.asynccontextmanager
async def orphan(data_dir: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A valkey-server with data, starting in a directory that no process owns; nobody has told it to stop."""
    async with EmbeddedValkey(data_dir) as store:
        await write(store, "key", "value")
    lock = directory.WriterLock(data_dir)
    assert lock.acquire()
    arguments = valkey_command.arguments(
        data_dir, data_dir / "valkey.sock", data_dir / "valkey.log", "always"
    )
    server = subprocess.Popen([embedded.server_binary(), *arguments], pass_fds=(lock.fd,))  # noqa: ASYNC220
    lock.close()
    try:
        yield server
    finally:
        server.kill()
        server.wait()


async def ready(data_dir: Path) -> None:
    await EmbeddedValkey(data_dir)._ready(asyncio.get_running_loop().create_future())
