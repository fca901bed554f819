"""Where the sockets between a supervisor and its workers are, and what becomes of those of a killed one."""

import fcntl
import tempfile
from pathlib import Path

import pytest

from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.socket_directory import socket_directory, socket_places


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


def test_it_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with socket_directory([tmp_path / "missing", tmp_path]) as directory:
        assert directory.parent == tmp_path
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "1.sock").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_supervisor_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    others = tmp_path / "kuueri-data"
    others.mkdir()
    left = tmp_path / "kuueri-workers-left"
    left.mkdir()
    for name in ("lock", "1.sock", "2.sock"):
        (left / name).touch()
    lives = tmp_path / "kuueri-workers-lives"
    lives.mkdir()
    with (lives / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket_directory([tmp_path]) as directory, socket_directory([tmp_path]) as second:
            assert set(tmp_path.iterdir()) == {others, lives, directory, second}
    assert set(tmp_path.iterdir()) == {others, lives}


def test_a_path_that_no_socket_takes_is_passed_over(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with tempfile.TemporaryDirectory() as room:
        short = Path(room)
        with socket_directory([long, short]) as directory:
            assert directory.parent == short
        with pytest.raises(StartError, match="its path is too long for a socket"), socket_directory([long]):
            pass


def test_no_place_says_what_to_mount(tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match=r"mount an empty directory .* at /tmp"),
        socket_directory([tmp_path / "missing"]),
    ):
        pass
