"""The embedded store's data directory: its socket, its locks, and what is wrong with it."""

import asyncio
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuueri_grpc.store import data_dir as directory
from kuueri_grpc.store.embedded import EmbeddedValkey, ValkeyStartError
from tests.store.embedded_tools import assert_gone, holder, mode, names_in, read, write


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


# --- where the socket is ----------------------------------------------------------------------


@pytest.fixture
def short_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kq"))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def long_data_dir(tmp_path: Path) -> Path:
    return tmp_path / ("d" * directory.MAX_SOCKET_PATH_BYTES)


async def test_a_path_too_long_for_a_socket_moves_only_the_socket(
    long_data_dir: Path, short_temporary_directory: Path
) -> None:
    async with EmbeddedValkey(long_data_dir) as store:
        (name,) = names_in(short_temporary_directory)
        assert store.url == f"unix://{short_temporary_directory}/{name}/valkey.sock"
        assert mode(short_temporary_directory / name) == 0o700
        await write(store, "key", "value")
    assert names_in(short_temporary_directory) == set()
    async with EmbeddedValkey(long_data_dir) as store:
        assert await read(store, "key") == b"value"


async def test_a_socket_directory_that_others_can_enter_is_refused(
    long_data_dir: Path, short_temporary_directory: Path
) -> None:
    store = EmbeddedValkey(long_data_dir)
    planted = directory.socket_path(store.data_dir).parent
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(ValkeyStartError, match=f"{planted} is not this user's alone.*--data-dir"):
        await store.start()


async def test_no_room_for_a_socket_anywhere_says_so(
    long_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * directory.MAX_SOCKET_PATH_BYTES)))
    with pytest.raises(ValkeyStartError, match=r"no room for a socket.*TMPDIR"):
        await EmbeddedValkey(long_data_dir).start()


@pytest.mark.parametrize(("excess", "name"), [(0, "d"), (1, "kuueri-")])
def test_the_socket_moves_at_the_limit(excess: int, name: str) -> None:
    length = directory.MAX_SOCKET_PATH_BYTES - len("/") - len("/valkey.sock") + excess
    assert directory.socket_path(Path("/" + "d" * length)).parent.name.startswith(name)


# --- one process at a time --------------------------------------------------------------------


async def test_a_second_server_is_refused_and_the_first_goes_on(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as first:
        with pytest.raises(ValkeyStartError) as refusal:
            await EmbeddedValkey(data_dir).start()
        assert str(refusal.value) == (
            f"{data_dir} is in use by process {os.getpid()}; "
            "stop that server, or give this one another directory with --data-dir"
        )
        await write(first, "key", "value")
        assert await read(first, "key") == b"value"


async def test_a_server_of_another_process_is_named(data_dir: Path) -> None:
    async with holder(data_dir) as (process, _):
        with pytest.raises(ValkeyStartError, match=f"in use by process {process.pid};"):
            await EmbeddedValkey(data_dir).start()


async def test_a_directory_is_the_same_by_another_path(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data_dir)
    async with EmbeddedValkey(data_dir):
        with pytest.raises(ValkeyStartError, match="in use by process"):
            await EmbeddedValkey(tmp_path / "link").start()


# --- directories that cannot be used -----------------------------------------------------------


@pytest.fixture
def unwritable(data_dir: Path) -> Iterator[Path]:
    data_dir.mkdir(mode=0o500)
    if os.geteuid() != 0:
        yield data_dir
        return
    # To root nothing is unwritable, so be nobody for a while.
    os.seteuid(65534)
    try:
        yield data_dir
    finally:
        os.seteuid(0)


async def test_an_unwritable_directory_says_so(unwritable: Path) -> None:
    with pytest.raises(
        ValkeyStartError, match=rf"cannot use {unwritable}.*: Permission denied; give .* with --data-dir"
    ):
        await EmbeddedValkey(unwritable).start()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


async def test_a_file_in_place_of_the_directory_says_so(file: Path) -> None:
    with pytest.raises(ValkeyStartError, match=rf"cannot use {file}: it is not a directory; .*--data-dir"):
        await EmbeddedValkey(file).start()


async def test_a_directory_below_a_file_says_so(file: Path) -> None:
    with pytest.raises(ValkeyStartError, match=rf"cannot use {file}/data: Not a directory; .*--data-dir"):
        await EmbeddedValkey(file / "data").start()


# --- damaged data -----------------------------------------------------------------------------


async def append_only_file(data_dir: Path) -> Path:
    """Write "first", a filler and "last", stop, and return the file that holds them."""
    async with EmbeddedValkey(data_dir) as store:
        for key, value in (("first", "1"), ("filler", "f" * 1000), ("last", "1")):
            await write(store, key, value)
    (file,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    return file


async def test_a_write_that_was_torn_off_costs_only_itself(data_dir: Path) -> None:
    file = await append_only_file(data_dir)
    with file.open("r+b") as content:
        content.truncate(file.stat().st_size - 3)
    async with EmbeddedValkey(data_dir) as store:
        assert await read(store, "first") == b"1"
        assert await read(store, "last") is None


async def test_garbage_in_the_append_only_file_is_refused_and_can_be_repaired_as_told(
    data_dir: Path, tmp_path: Path
) -> None:
    file = await append_only_file(data_dir)
    file.write_bytes(file.read_bytes().replace(b"filler\r\n$1000", b"filler\r\ngarbage"))

    store = EmbeddedValkey(data_dir)
    with pytest.raises(ValkeyStartError) as refusal:
        await store.start()
    assert_gone(store.pid)
    message = str(refusal.value)
    assert "did not start: valkey-server" in message
    assert "exited with status 1" in message
    assert "Bad file format reading the append only file" in message
    assert "The append-only file is damaged" in message

    command = message.splitlines()[-1]
    repair = await asyncio.to_thread(
        subprocess.run,
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        input=b"y\n",
        capture_output=True,
        check=False,
    )
    assert repair.returncode == 0, repair
    async with EmbeddedValkey(data_dir) as store:
        assert await read(store, "first") == b"1"
        assert await read(store, "last") is None


@pytest.fixture
def manifest(data_dir: Path) -> Path:
    path = data_dir / "appendonlydir" / "appendonly.aof.manifest"
    path.parent.mkdir(parents=True)
    path.write_text(
        "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\n"
    )
    return path


@pytest.mark.parametrize(
    ("damaged", "advised"), [("a.1.base.rdb", False), ("a.1.incr.aof", False), ("a.2.incr.aof", True)]
)
def test_only_the_last_file_is_advised_to_be_cut_off(
    data_dir: Path, manifest: Path, damaged: str, advised: bool
) -> None:
    log = f"# Bad file format reading the append only file {damaged}: make a backup"
    advice = directory.repair_advice(data_dir, log, Path("/bin/valkey server"))
    assert ("ln -s '/bin/valkey server' valkey-check-aof" in advice) == advised
    assert (f"--fix {manifest.with_name(damaged)}" in advice) == advised
    assert bool(advice) == advised


def test_no_advice_without_a_known_damage(data_dir: Path) -> None:
    assert directory.repair_advice(data_dir, "# Out of memory", Path("/bin/valkey")) == ""


async def test_a_full_disk_is_named_where_the_log_cannot(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedValkey(data_dir) as store:
        os.kill(store.pid, signal.SIGKILL)
        ended = await store.wait()
        assert "MiB left" not in str(ended)
        monkeypatch.setattr(directory, "_LITTLE_ROOM_BYTES", sys.maxsize)
        ended = await store.wait()
        assert re.search(
            rf"\nThe disk that {data_dir} is on has \d+\.\d MiB left; make room on it\.$", str(ended)
        )


async def test_names_of_what_was_made_are_on_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = [], os.fsync

    def noted(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    data_dir = tmp_path / "new" / "data"
    async with EmbeddedValkey(data_dir):
        assert synced == [tmp_path / "new", tmp_path, data_dir]
    synced.clear()
    async with EmbeddedValkey(data_dir):
        assert synced == [data_dir]


async def test_a_full_disk_is_said_to_be_full(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ValkeyStartError, match=f"cannot use {data_dir}: No space left on device; make room"):
        await EmbeddedValkey(data_dir).start()
    monkeypatch.undo()
    async with EmbeddedValkey(data_dir):
        pass
