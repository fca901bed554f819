"""Connect to the store, and remember what it was initialised with."""

import secrets
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.client import CONNECTIONS, StoreClient, quick_retry
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.fitness import check_fitness, text

__all__ = ["SCHEMA", "StoreAddress", "UnfitStore", "initialise"]

SCHEMA = "1"
_REDIS_PORT = 6379
#: How long the store may take to answer. Longer than its slowest script by far, and short enough for a
#: caller to be told, and to try again, before its own deadline.
TIMEOUT_MS = 3_000


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is: redis://, rediss:// or unix://, and credentials that are not in the URL.

    `timeout_ms`: how long it may take to connect, and to answer.
    """

    url: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_ms: int = TIMEOUT_MS

    @property
    def location(self) -> str:
        """`host:port`, or the path of the socket: fit to be shown, without credentials."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return unquote(parts.path)
        host = parts.hostname or "localhost"
        return f"{f'[{host}]' if ':' in host else host}:{parts.port or _REDIS_PORT}"

    def connect(self) -> StoreClient:
        """Return a client for commands; it connects when first used."""
        return StoreClient.from_pool(self._pool(max_connections=CONNECTIONS, retry=quick_retry()))

    def connect_for_checks(self) -> StoreClient:
        """Return a client for `RedisStoreProbe`: one connection of its own, however busy the others are.

        It repeats nothing: the probe is there to notice.
        """
        return StoreClient.from_pool(self._pool(max_connections=1, retry=Retry(NoBackoff(), 0, ())))

    def connect_for_signals(self) -> Redis:
        """Return a client for `RedisSignalBus`.

        Its connection is not mended behind the bus's back: signals are lost with a connection, so the bus
        has to know.
        """
        return Redis.from_pool(self._pool(retry=Retry(NoBackoff(), 0, ())))

    def _pool(self, **options: object) -> ConnectionPool:
        timeout_s = self.timeout_ms / 1_000
        return ConnectionPool.from_url(
            self.url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            **self._credentials(),
            **options,
        )

    def _credentials(self) -> dict[str, str]:
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value is not None}


async def initialise(client: Redis, partitions: int) -> str:
    """Check the store, initialise an empty one, and return the epoch of its data.

    A store that is initialised already is only read: it may be full, or a replica.

    Raises:
        UnfitStore: it cannot hold tasks safely, or was made with another partition count or schema.
        StoreUnavailable: it does not answer, or does not take the write that makes an empty one ours.
    """
    with outages_mapped():
        await check_fitness(client)
        kept = await _identity(client)
        if not kept.keys() >= {"epoch", "partitions", "schema"}:
            # One field at a time: of several instances that start at once, one decides each.
            await client.hsetnx(keys.STORE, "epoch", secrets.token_urlsafe(9))
            await client.hsetnx(keys.STORE, "partitions", str(partitions))
            await client.hsetnx(keys.STORE, "schema", SCHEMA)
            kept = await _identity(client)
    try:
        epoch, partitions_kept, schema = kept["epoch"], int(kept["partitions"]), kept["schema"]
    except KeyError:
        raise StoreUnavailable("the store does not serve now: it was emptied a moment ago") from None
    if partitions_kept != partitions:
        raise UnfitStore(
            f"the store was initialised with {partitions_kept} partitions, this server is set to "
            f"{partitions}; set DATABASE.PARTITIONS to {partitions_kept}"
        )
    if schema != SCHEMA:
        raise UnfitStore(f"the store's schema is {schema!r}; this version reads {SCHEMA!r}")
    return epoch


async def _identity(client: Redis) -> dict[str, str]:
    return {text(name): text(value) for name, value in (await client.hgetall(keys.STORE)).items()}
