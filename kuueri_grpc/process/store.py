"""The store that the settings name: opened for a server, or found for a command."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from kuueri_grpc.config import Settings
from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.process.backoff import RestartBackoff
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.keys import embedded_keys, external_keys
from kuueri_grpc.process.loops import running
from kuueri_grpc.process.stop import Stop, StoppedEarly
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.embedded import EmbeddedValkey, ValkeyStartError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenStore:
    """Where the store is, what it is called in the line that says that the server is ready, and its keys."""

    address: StoreAddress
    description: str
    keyring: Keyring


@contextlib.asynccontextmanager
async def open_store(settings: Settings, stop: Stop) -> AsyncIterator[OpenStore]:
    """Have the store there until the end of the block; the embedded one is restarted when it dies.

    Raises:
        StoppedEarly: `stop` came while the embedded store was starting; loading its data can take long.
        StartError: the embedded store does not start, there is no key for the store, or keeping it there
            broke down (which requests `stop`).
    """
    url, timeout_ms = settings.redis_url, settings.database.redis.timeout_ms
    if url is not None:
        address = StoreAddress(url.get_secret_value(), timeout_ms=timeout_ms)
        yield OpenStore(address, "external store", external_keys(settings))
        return
    embedded = EmbeddedValkey(settings.data_dir, fsync=settings.database.fsync)
    try:
        if await stop.comes_before(embedded.start()):
            raise StoppedEarly
    except (ValkeyStartError, OSError) as error:
        raise StartError(str(error)) from error
    try:
        async with running([functools.partial(keep_running, embedded)], stop) as failures:
            address = StoreAddress(embedded.url, timeout_ms=timeout_ms)
            keyring = embedded_keys(settings, embedded.data_dir)
            yield OpenStore(address, f"embedded store in {settings.data_dir}", keyring)
            if failures:
                raise StartError(f"the embedded store cannot be kept running: {failures[0]}")
    finally:
        await embedded.aclose()


def is_embedded(settings: Settings) -> bool:
    """Return whether this server runs its store itself; workers have its address in their settings."""
    url = settings.redis_url
    if url is None:
        return True
    try:
        return url.get_secret_value() == EmbeddedValkey(settings.data_dir).url
    except ValkeyStartError:
        return False


def running_store(settings: Settings) -> StoreAddress:
    """Return where the store of a running server is: the external one, or the socket of the embedded one.

    Raises:
        StartError: there can be no embedded store in the data directory.
    """
    url = settings.redis_url
    if url is not None:
        return StoreAddress(url.get_secret_value())
    try:
        return StoreAddress(EmbeddedValkey(settings.data_dir).url)
    except ValkeyStartError as error:
        raise StartError(str(error)) from error


async def keep_running(embedded: EmbeddedValkey) -> None:
    """Start the embedded store again whenever it ends, on its directory, until cancelled.

    Its clients find it under the same address. Until it is back they meet an outage.
    """
    backoff = RestartBackoff()
    lived_since = time.monotonic()
    while True:
        cause: object = await embedded.wait()
        lived_ms = round((time.monotonic() - lived_since) * 1_000)
        while True:
            wait_ms = backoff.after(lived_ms)
            _log.error(
                "the embedded store ended; it is started again in %d ms: %s",
                wait_ms,
                cause,
                extra={"event": "embedded_store_ended"},
            )
            await asyncio.sleep(wait_ms / 1_000)
            try:
                await embedded.aclose()
                await embedded.start()
            except (ValkeyStartError, OSError) as error:
                cause, lived_ms = error, 0
            else:
                break
        lived_since = time.monotonic()
        _log.warning("the embedded store is back", extra={"event": "embedded_store_back"})
