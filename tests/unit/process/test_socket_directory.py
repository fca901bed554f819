"""Where the sockets between a supervisor and its workers are, and what becomes of those of a killed one."""

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.socket_directory import socket_directory, socket_places


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, however long pytest's own is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture(autouse=True)
def _no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_runtime_directory_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(tempfile, "tempdir", "/var/temporary")
    assert socket_places(tmp_path) == [
        Path("/run/one"),
        Path("/run/two"),
        Path("/run/user/7"),
        tmp_path,
        Path("/var/temporary"),
    ]


def test_without_a_temporary_directory_the_data_directory_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert socket_places(tmp_path) == [tmp_path]
    assert socket_places(tmp_path / "missing") == []


def test_it_is_private_and_gone_afterwards(room: Path) -> None:
    with socket_directory([room / "missing", room]) as directory:
        assert directory.parent == room
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "1.sock").touch()
    assert list(room.iterdir()) == []


def test_what_a_killed_supervisor_left_is_removed_and_nothing_else(room: Path) -> None:
    others = room / "kuueri-data"
    others.mkdir()
    left = room / "kuueri-workers-left"
    left.mkdir()
    for name in ("lock", "1.sock", "2.sock"):
        (left / name).touch()
    lives = room / "kuueri-workers-lives"
    lives.mkdir()
    with (lives / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket_directory([room]) as directory, socket_directory([room]) as second:
            assert set(room.iterdir()) == {others, lives, directory, second}
    assert set(room.iterdir()) == {others, lives}


def test_a_path_that_no_socket_takes_is_passed_over(room: Path) -> None:
    long = room / ("x" * 100)
    long.mkdir()
    with socket_directory([long, room]) as directory:
        assert directory.parent == room
    with pytest.raises(StartError, match="its path is too long for a socket"), socket_directory([long]):
        pass


def test_no_place_says_what_to_mount(room: Path) -> None:
    with (
        pytest.raises(StartError, match=r"missing: No such file.*mount an empty directory .* at /tmp"),
        socket_directory([room / "missing"]),
    ):
        pass
