"""A directory for the sockets between a supervisor and its workers, in whatever place can be written to.

One that a killed supervisor left is removed by the next that uses the same place: a supervisor holds flock(2)
on a file in its directory, which the kernel releases however the process ends.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kuueri_grpc.process.errors import StartError

_PREFIX = "kuueri-workers-"
_LOCK = "lock"
#: Bytes of a socket's path that every system takes, and of the longest name in a directory of ours.
_LONGEST_PATH, _LONGEST_NAME = 103, len("/12345678/1234.sock")


def socket_places(data_dir: Path) -> list[Path]:
    """Return where to look for room, best first.

    That is the directory that systemd or the session gives for such files, the data directory if it is there,
    and the system's directory for temporary files.
    """
    named = (*os.environ.get("RUNTIME_DIRECTORY", "").split(":"), os.environ.get("XDG_RUNTIME_DIR", ""))
    places = [Path(path) for path in named if path.startswith("/")]
    if data_dir.is_dir():
        places.append(data_dir.absolute())
    with contextlib.suppress(FileNotFoundError):  # none can be written to
        places.append(Path(tempfile.gettempdir()))
    return places


@contextlib.contextmanager
def socket_directory(places: Sequence[Path]) -> Iterator[Path]:
    """Give a directory that is this user's alone in the first place that takes one; remove it at the end.

    Raises:
        StartError: none of them does; the text says what to do.
    """
    refusals = []
    for place in places:
        if len(os.fsencode(place / _PREFIX)) + _LONGEST_NAME > _LONGEST_PATH:
            refusals.append(f"{place}: its path is too long for a socket")
            continue
        try:
            _sweep(place)
            directory, lock = _make(place)
        except OSError as error:
            refusals.append(f"{place}: {error.strerror}")
            continue
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)
        return
    raise StartError(
        "there is no directory for the sockets between this server's processes "
        f"({'; '.join(refusals) or 'no temporary directory'}); mount an empty directory that this user can "
        "write to at /tmp, or name one in XDG_RUNTIME_DIR; or run with --workers 1, which needs none"
    )


def _make(place: Path) -> tuple[Path, int]:
    """Make a directory, and the lock in it; return both."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        try:
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue  # swept by another supervisor a moment ago
        if _locked(lock) and os.fstat(lock).st_nlink:
            return directory, lock
        os.close(lock)


def _sweep(place: Path) -> None:
    """Remove what supervisors of this user left that were killed."""
    for directory in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # of another user, or gone meanwhile
            if directory.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _locked(lock):
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
