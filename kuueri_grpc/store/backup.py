"""Copies of an embedded store's files: made while it runs, restored, checked and repaired.

Valkey only ever appends to the files that its manifest names, or replaces the manifest as a whole. So links
to them, with the same manifest before and after they were made, hold one state of the store, whatever is
written or rewritten while the links are copied. A change that is incomplete at the end of a copy is cut off
when it is loaded.
"""

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kuueri_grpc.store.data_dir import owned, sync_names
from kuueri_grpc.store.embedded import server_binary
from kuueri_grpc.store.key_file import KEY_FILE_NAME
from kuueri_grpc.store.valkey_command import environment

FILES = "appendonlydir"
_MANIFEST = "appendonly.aof.manifest"
_MOST_TRIES = 100
_ANALYSIS = re.compile(r"size=(\d+), ok_up_to=(\d+), ok_up_to_line=\d+, diff=(\d+)")


class BackupError(Exception):
    """The backup cannot be made, restored or checked. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file: nothing from `sound_bytes` on can be read.

    `can_be_cut`: the rest can be cut off, as no file of later changes follows.
    """

    file: Path
    size_bytes: int
    sound_bytes: int
    can_be_cut: bool


def back_up(data_dir: Path, target: Path, *, with_keys: bool) -> int:
    """Copy the files of a store to a new directory; return their size in bytes. The store may be in use.

    `with_keys`: also the key file, without which nothing in the copy can be read.

    Raises:
        BackupError: there is no store, or `target` exists.
        OSError: a file cannot be read or written.
    """
    if not (data_dir / FILES / _MANIFEST).exists():
        raise BackupError(f"there is no store in {data_dir}; name its directory with --data-dir")
    if target.exists():
        raise BackupError(f"{target} exists; name a directory that does not")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
    draft.mkdir(mode=0o700)
    try:
        size = _copy_files(data_dir, draft)
        if with_keys and (data_dir / KEY_FILE_NAME).exists():
            size += _copy(data_dir / KEY_FILE_NAME, draft / KEY_FILE_NAME)
        sync_names(draft)
        draft.rename(target)
        sync_names(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return size


def _copy_files(data_dir: Path, draft: Path) -> int:
    with _linked(data_dir) as links:
        copies = draft / FILES
        copies.mkdir(mode=0o700)
        # The manifest last: what was broken off is no backup.
        names = sorted(path.name for path in links.iterdir() if path.name != _MANIFEST)
        size = sum(_copy(links / name, copies / name) for name in [*names, _MANIFEST])
        sync_names(copies)
    return size


@contextlib.contextmanager
def _linked(data_dir: Path) -> Iterator[Path]:
    """Yield a directory, beside the store's, of links to its files in one state."""
    files = data_dir / FILES
    with tempfile.TemporaryDirectory(prefix="backup-", dir=data_dir) as scratch:
        for attempt in range(_MOST_TRIES):
            links = Path(scratch) / str(attempt)
            links.mkdir()
            manifest = (files / _MANIFEST).read_bytes()
            try:
                for name in _names(manifest):
                    os.link(files / name, links / name)
            except FileNotFoundError:
                continue  # a rewrite has just ended
            if (files / _MANIFEST).read_bytes() == manifest:
                (links / _MANIFEST).write_bytes(manifest)
                yield links
                return
    raise BackupError(f"the files in {files} change too often to be copied; try again")


def _names(manifest: bytes) -> list[str]:
    """Return the files that the store loads, in their order, from lines `file NAME seq N type b|i|h`."""
    rows = [line.split() for line in manifest.decode().splitlines()]
    return [row[1] for row in rows if row and row[-1] != "h"]


def _copy(source: Path, target: Path) -> int:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as reader, os.fdopen(fd, "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())
        return writer.tell()


def put_back(backup: Path, data_dir: Path) -> None:
    """Copy a backup to the directory of a store, which must have none.

    Raises:
        BackupError: there is no backup, or there is a store.
        ValkeyStartError: the directory is in use.
        OSError: a file cannot be read or written.
    """
    if not (backup / FILES / _MANIFEST).exists():
        raise BackupError(f"there is no backup in {backup}: it has no {FILES}/{_MANIFEST}")
    if (data_dir / FILES).exists():
        raise BackupError(
            f"{data_dir} has a store; move it away first, or name another directory with --data-dir"
        )
    with owned(data_dir):
        draft = data_dir / f"{FILES}.partial"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        for name in [*_names((backup / FILES / _MANIFEST).read_bytes()), _MANIFEST]:
            _copy(backup / FILES / name, draft / name)
        keys = backup / KEY_FILE_NAME
        if keys.exists() and not (data_dir / KEY_FILE_NAME).exists():
            _copy(keys, data_dir / KEY_FILE_NAME)
        sync_names(draft)
        draft.rename(data_dir / FILES)
        sync_names(data_dir)


def check(data_dir: Path) -> Sequence[Damage]:
    """Read the files of a store that does not run; return what is damaged.

    Raises:
        BackupError: there is no store, or a file is missing.
        ValkeyStartError: the directory is in use, or this system has no valkey-server.
        OSError: a file cannot be read.
    """
    with _checking(data_dir) as checker:
        return [damage for damage in map(checker.damage, checker.files) if damage is not None]


def repair(data_dir: Path) -> Sequence[Damage]:
    """Cut off what cannot be read at the end of the file that was written last; return what was cut off.

    Raises:
        BackupError: something is damaged that cannot be cut off; nothing was changed. And as `check` does.
    """
    with _checking(data_dir) as checker:
        damages = [damage for damage in map(checker.damage, checker.files) if damage is not None]
        for damage in damages:
            if not damage.can_be_cut:
                raise BackupError(
                    f"{damage.file} cannot be repaired, later changes build on it: restore a backup"
                )
        for damage in damages:
            with damage.file.open("r+b") as file:
                file.truncate(damage.sound_bytes)
                os.fsync(file.fileno())
        return damages


@contextlib.contextmanager
def _checking(data_dir: Path) -> "Iterator[_Checker]":
    files = data_dir / FILES
    if not (files / _MANIFEST).exists():
        raise BackupError(f"there is no store in {data_dir}; name its directory with --data-dir")
    with owned(data_dir), tempfile.TemporaryDirectory(prefix="check-", dir=data_dir) as scratch:
        yield _Checker(files, Path(scratch))


class _Checker:
    """Valkey's checkers, which are its server under other names.

    Each file is checked by itself: the checker that is given the manifest takes snapshots for damaged.
    """

    def __init__(self, files: Path, scratch: Path) -> None:
        self.files = [files / name for name in _names((files / _MANIFEST).read_bytes())]
        self._scratch = scratch
        for name in ("valkey-check-aof", "valkey-check-rdb"):
            (scratch / name).symlink_to(server_binary())

    def damage(self, file: Path) -> Damage | None:
        """Return what is wrong with a file; None: nothing."""
        if not file.exists():
            raise BackupError(f"{file} is missing: restore a backup")
        size = file.stat().st_size
        if size == 0:
            return None
        snapshot = file.suffix == ".rdb"
        done = self._run("valkey-check-rdb" if snapshot else "valkey-check-aof", file)
        if done.returncode == 0:
            return None
        found = _ANALYSIS.search(done.stdout)
        if snapshot or found is None:
            return Damage(file, size, 0, can_be_cut=False)
        return Damage(file, size, int(found[2]), can_be_cut=file == self.files[-1])

    def _run(self, checker: str, file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603  the server of the wheel, with a file of its own
            [self._scratch / checker, file],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment(os.environ),
        )
