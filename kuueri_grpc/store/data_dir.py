"""The embedded store's data directory: who may use it, and where its socket is.

Two locks, both flock(2), which the kernel releases however a process ends:

- `kuueri.lock` is held by the process that uses the directory, and names it. It is not passed on to
  programs that the process starts, so it is free as soon as that process is gone.
- `valkey.lock` is passed on to valkey-server, and held by it and by what it forks to rewrite its
  files. It is free when nothing writes to the directory any more.

Telling the two apart makes "in use by another server" and "the killed server's valkey-server is still
on its way out" two different answers, without guessing from a process id whether a process is alive.
The files stay: removing a lock file lets two processes hold locks on two files of one name.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: With less room than this on its disk, that may be what valkey-server ended of.
_LITTLE_ROOM_BYTES = 64 * 1_024 * 1_024
#: Bytes of a socket's path that every system takes: `sun_path` is 104 on macOS, 108 on Linux, with its NUL.
MAX_SOCKET_PATH_BYTES = 103


class ValkeyStartError(Exception):
    """The embedded store cannot start. The text is for the operator: what is wrong, and what to do."""


def socket_path(data_dir: Path) -> Path:
    """Return where the server of an absolute `data_dir` listens.

    That is `valkey.sock` in it. Where the path is too long for a socket, it is in a directory of its own
    in the system's directory for temporary files, whose name comes from the user and a digest of
    `data_dir`: whoever comes after a killed process finds it, and nothing piles up.

    Raises:
        ValkeyStartError: both are too long, or nobody may write to the second.
    """
    path = data_dir / "valkey.sock"
    if _fits(path):
        return path
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise ValkeyStartError(
            f"no room for a socket: {data_dir} is too long (a path takes {MAX_SOCKET_PATH_BYTES} bytes), and "
            "no directory for temporary files can be written to; give a shorter directory with --data-dir, "
            "or mount one that this user can write to at /tmp"
        ) from None
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    path = temporary / f"kuueri-{os.geteuid()}-{digest}" / "valkey.sock"
    if _fits(path):
        return path
    raise ValkeyStartError(
        f"no room for a socket: {data_dir} and {temporary} are both too long "
        f"(a socket's path takes {MAX_SOCKET_PATH_BYTES} bytes); "
        "give a shorter directory with --data-dir or in TMPDIR"
    )


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES


def prepare(data_dir: Path) -> None:
    """Make the directory, with its parents, for this user alone. One that exists stays as it is.

    Raises:
        ValkeyStartError: it cannot be made.
    """
    try:
        made = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in made:
            # A directory may be one to put things in and not to look into.
            with contextlib.suppress(PermissionError):
                sync_names(path.parent)
    except OSError as error:
        raise _unusable(data_dir, error) from error


def sync_names(directory: Path) -> None:
    """Have the names in a directory on disk: a file that is synced is of no use where its name is lost.

    Raises:
        OSError: the disk does not take it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def socket_directory(path: Path, data_dir: Path) -> Iterator[None]:
    """Have the directory of the socket `path` there, and leave neither behind.

    Raises:
        ValkeyStartError: it is not `data_dir`, exists, and others may write to it.
    """
    directory = path.parent
    if directory != data_dir:
        _make_private(directory)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if directory != data_dir:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _make_private(directory: Path) -> None:
    """Make a directory in a place where others may have made one of that name before."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise _unusable(directory, error) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ValkeyStartError(
            f"{directory} is not this user's alone, so no socket can be put there; "
            "remove it, or give a shorter directory with --data-dir"
        )


def open_private(path: Path, flags: int = 0) -> int:
    """Open a file of the directory to read and write, made for this user alone; return the descriptor.

    Raises:
        ValkeyStartError: it is not writable.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error


@contextlib.contextmanager
def owned(data_dir: Path) -> Iterator[None]:
    """Be the one process that uses the directory.

    Raises:
        ValkeyStartError: another process does (named in the text), or the directory is not writable.
    """
    lock = open_private(data_dir / "kuueri.lock")
    try:
        if not _try_lock(lock, data_dir):
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            raise ValkeyStartError(
                f"{data_dir} is in use by {f'process {holder}' if holder else 'another process'}; "
                "stop that server, or give this one another directory with --data-dir"
            )
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise _unusable(data_dir, error) from error
        yield
    finally:
        os.close(lock)


class WriterLock:
    """The lock for whatever writes to the directory; `fd` is to be passed on to valkey-server."""

    def __init__(self, data_dir: Path) -> None:
        """Open it.

        Raises:
            ValkeyStartError: the directory is not writable.
        """
        self._data_dir = data_dir
        self.fd = open_private(data_dir / "valkey.lock")

    def acquire(self) -> bool:
        """Take the lock; False: a valkey-server still writes to the directory.

        Raises:
            ValkeyStartError: the file system has no locks.
        """
        return _try_lock(self.fd, self._data_dir)

    def close(self) -> None:
        """Give up this process's share; the lock is held for as long as another process has it."""
        os.close(self.fd)


def _try_lock(fd: int, data_dir: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise ValkeyStartError(
            f"cannot lock {data_dir}: {error.strerror}; "
            "give a directory on a local file system with --data-dir"
        ) from error
    return True


def _unusable(path: Path, error: OSError) -> ValkeyStartError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ValkeyStartError(
            f"cannot use {path}: {error.strerror}; make room there, or give a directory on another disk "
            "with --data-dir"
        )
    # What mkdir says of a file in its way would mislead.
    reason = "it is not a directory" if isinstance(error, FileExistsError) else error.strerror
    return ValkeyStartError(
        f"cannot use {path}: {reason}; give a directory that this user can write to with --data-dir"
    )


def shortage(data_dir: Path) -> str:
    """Return what to say of a disk that is full, or nearly; "" if there is room.

    valkey-server itself may be unable to: its log is on that disk.
    """
    try:
        free = shutil.disk_usage(data_dir).free
    except OSError:
        return ""
    if free >= _LITTLE_ROOM_BYTES:
        return ""
    return f"The disk that {data_dir} is on has {free / 1_048_576:.1f} MiB left; make room on it."


def repair_advice(data_dir: Path, log: str, binary: Path) -> str:
    """Return what to do about the damage that valkey-server logged before it gave up; "" if nothing is known.

    The log advises to check by way of the manifest, which Valkey 9 cannot: its checker does not know the
    header of its own base files. Cutting off the damaged file itself works, and is safe for the last one.
    """
    damage = re.search(r"Bad file format reading the append only file (\S+):", log)
    folder = data_dir / "appendonlydir"
    if damage is None or damage[1] != _last_file(folder):
        return ""
    # The server is the checker too, when it is called by that name.
    return (
        f"The append-only file is damaged. Restore {data_dir} from a backup; or copy it first and then cut "
        "the file off where the damage begins, which loses what was written after that:\n"
        f"  ln -s {shlex.quote(str(binary))} valkey-check-aof && "
        f"./valkey-check-aof --fix {shlex.quote(str(folder / damage[1]))}"
    )


def _last_file(folder: Path) -> str:
    """Return the name of the file that is written to: the last one of the manifest."""
    try:
        return (folder / "appendonly.aof.manifest").read_text().splitlines()[-1].split()[1]
    except (OSError, IndexError):
        return ""
