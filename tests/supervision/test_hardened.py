"""A read-only root, a user that is a number, no HOME and no TMPDIR: as in a hardened pod."""

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.acceptance.caller import connected, post, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S
from tests.acceptance.targets import Target
from tests.keys import ENVIRONMENT
from tests.outages.valkeys import Valkey
from tests.supervision.processes import Served, all_gone
from tests.telemetry.scrape import get

USER = 10001
SCRIPT = Path(__file__).with_name("hardened.sh")


def confined(directory: Path, *command: str) -> list[str]:
    return ["unshare", "--mount", "sh", str(SCRIPT), str(directory), *command]


def _refusal() -> str:
    """Return why this machine does not let us imitate a pod; nothing: it does."""
    if any(shutil.which(name) is None for name in ("unshare", "setpriv", "mount")):
        return "unshare, setpriv or mount not found"
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            confined(Path(directory), "sh", "-c", "! touch /tmp/x 2>/dev/null"),
            capture_output=True,
            text=True,
            check=False,
        )
    return "" if done.returncode == 0 else f"unshare and mount are refused: {done.stderr.strip()}"


REFUSAL = _refusal()
pytestmark = [pytest.mark.timeout(240), pytest.mark.skipif(bool(REFUSAL), reason=REFUSAL or "-")]


@pytest.fixture
def volume() -> Iterator[Path]:
    """What is mounted for the server, which is not root, to write to."""
    directory = Path(tempfile.mkdtemp(prefix="kuueri-", dir="/tmp"))
    os.chown(directory, USER, USER)
    yield directory
    shutil.rmtree(directory)


def sockets(volume: Path) -> list[Path]:
    return [path for path in volume.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]


def directories(volume: Path) -> list[Path]:
    return list(volume.glob("kuueri-workers-*"))


async def start(volume: Path, *options: str, env: Mapping[str, str] | None = None) -> Served:
    process = await asyncio.create_subprocess_exec(
        *confined(volume, sys.executable, "-m", "kuueri_grpc.cli", "serve"),
        *("--port", "0", "--admin-port", "0", *LOOPBACK, *options),
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SCRIPT.parents[2]),
            # As for probes, which come from outside a container.
            "TASKS_ADMIN_HOST": "0.0.0.0",  # noqa: S104
            **(env or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    return Served(process, volume)


async def serves(served: Served, target: Target) -> None:
    await served.ready()
    admin = (await served.logged(r"metrics and health are on 0\.0\.0\.0(:\d+)"))[1]
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await get(f"127.0.0.1{admin}", path)).status == 200
    async with connected(served.address) as channel, asyncio.timeout(PATIENCE_S):
        project = await register(channel)
        task = await project.subscribe(post(target.url("/hook")))
        await project.ended(task.task_id)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_serves_with_nothing_but_its_data_directory(
    volume: Path, target: Target, workers: str
) -> None:
    served = await start(volume, "--workers", workers, "--data-dir", str(volume))
    try:
        await serves(served, target)
        await served.stop()
    finally:
        served.kill_all()
        await served.ended()
    assert sockets(volume) == []


async def test_sockets_of_a_supervisor_that_was_killed_are_removed(volume: Path, target: Target) -> None:
    killed = await start(volume, "--workers", "2", "--data-dir", str(volume))
    try:
        await serves(killed, target)
        left = directories(volume)
        running = killed.family()
        killed.send(signal.SIGKILL)
        await killed.ended()
        await all_gone(running)
        assert directories(volume) == left
        assert len(left) == 1
        served = await start(volume, "--workers", "2", "--data-dir", str(volume))
        try:
            await serves(served, target)
            (directory,) = directories(volume)
            assert directory not in left
            await served.stop()
        finally:
            served.kill_all()
            await served.ended()
    finally:
        killed.kill_all()
    assert not directories(volume)


async def test_an_external_store_needs_a_runtime_directory_alone(
    volume: Path, target: Target, tmp_path: Path
) -> None:
    store = Valkey(tmp_path / "store")
    await store.start()
    options = ("--workers", "2", "--redis-url", store.url)
    try:
        without = await start(volume, *options, env=ENVIRONMENT)
        assert await without.ended() == 1
        assert "mount an empty directory that this user can write to at /tmp" in without.story
        assert "Traceback" not in without.story
        served = await start(volume, *options, env={**ENVIRONMENT, "XDG_RUNTIME_DIR": str(volume)})
        with contextlib.ExitStack() as stack:
            stack.callback(served.kill_all)
            await serves(served, target)
            await served.stop()
    finally:
        store.stop()
