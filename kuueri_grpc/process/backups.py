"""Backups of the embedded store that the settings name."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis.asyncio

from kuueri_grpc.config import Settings
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.store import backup, data_dir, keys
from kuueri_grpc.store.backup import BackupError, Damage
from kuueri_grpc.store.data_dir import ValkeyStartError
from kuueri_grpc.store.embedded import EmbeddedValkey

__all__ = ["Damage", "back_up", "check", "repair", "restore"]


def back_up(settings: Settings, target: Path, *, with_keys: bool) -> int:
    """Copy the embedded store, which may be in use, to a new directory; return the size in bytes.

    Raises:
        StartError: it cannot be done; the text says why.
    """
    with _told(settings):
        return backup.back_up(settings.data_dir, target, with_keys=with_keys)


async def restore(settings: Settings, source: Path) -> int:
    """Put a backup into the data directory, load it once, and return the number of projects in it.

    The store gets a new epoch with the next start: resume tokens from after the backup are refused then, not
    mistaken for tokens of events that take the same numbers.

    Raises:
        StartError: it cannot be done; the directory is as before.
    """
    with _told(settings):
        data_dir.prepare(settings.data_dir)
        backup.put_back(source, settings.data_dir)
        try:
            async with EmbeddedValkey(settings.data_dir) as store, _client(store) as client:
                await client.hdel(keys.STORE, "epoch")
                return await _projects(client)
        except BaseException:
            shutil.rmtree(settings.data_dir / backup.FILES, ignore_errors=True)
            raise


def check(settings: Settings) -> Sequence[Damage]:
    """Return what is damaged of the embedded store, which must not be in use. Raises `StartError`."""
    with _told(settings):
        return backup.check(settings.data_dir)


def repair(settings: Settings) -> Sequence[Damage]:
    """Cut off the damaged end of the embedded store; return what was cut off. Raises `StartError`."""
    with _told(settings):
        return backup.repair(settings.data_dir)


def _client(store: EmbeddedValkey) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(store.url)


async def _projects(client: redis.asyncio.Redis) -> int:
    return sum([1 async for _ in client.scan_iter(match="{*}:project:*", count=10_000)])


@contextmanager
def _told(settings: Settings) -> Iterator[None]:
    """Turn what the store raises into `StartError`; an external store is refused."""
    if settings.redis_url is not None:
        raise StartError(
            "the settings name an external store, these commands are for the embedded one; "
            "docs/backup.md says how to back up an external one"
        )
    try:
        yield
    except (BackupError, ValkeyStartError) as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(f"{error.filename or settings.data_dir}: {error.strerror}") from error
