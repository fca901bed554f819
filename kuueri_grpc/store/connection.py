"""Connect to the store, and remember what it was initialised with."""

import secrets
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.client import StoreClient, quick_retry
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.cluster_fitness import FORMER_LAYOUT, check_cluster
from kuueri_grpc.store.cluster_nodes import ClusterNodes
from kuueri_grpc.store.cluster_signals import ClusterSignals, SignalClient
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.fitness import check_fitness, text
from kuueri_grpc.store.key_registry import KeyRegistry, check_keys, noted
from kuueri_grpc.store.topology import ClusterUrl

__all__ = ["CLUSTER_SCHEMA", "SCHEMA", "StoreAddress", "UnfitStore", "initialise"]

SCHEMA = "2"
#: All keys are in database 0. It has a name of its own, so that neither this version nor one that keeps
#: records in databases 1 to 3 of a cluster uses what the other has written.
CLUSTER_SCHEMA = f"{SCHEMA}-one-database"
_REDIS_PORT = 6379
#: How long the store may take to answer. Longer than its slowest script by far, and short enough for a
#: caller to be told, and to try again, before its own deadline.
TIMEOUT_MS = 3_000


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is: redis://, rediss:// or unix://, and credentials that are not in the URL.

    `redis+cluster://` and `rediss+cluster://` are a cluster, see `topology.ClusterUrl`.

    `timeout_ms`: how long it may take to connect, and to answer.
    """

    url: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_ms: int = TIMEOUT_MS

    @property
    def location(self) -> str:
        """`host:port`, or the path of the socket: fit to be shown, without credentials."""
        if cluster := ClusterUrl.parse(self.url):
            return ",".join(str(seed) for seed in cluster.seeds)
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return unquote(parts.path)
        host = parts.hostname or "localhost"
        return f"{f'[{host}]' if ':' in host else host}:{parts.port or _REDIS_PORT}"

    def connect(self) -> Commands:
        """Return a client for commands; it connects when first used."""
        return self._client(quick_retry())

    def connect_for_checks(self) -> Commands:
        """Return a client for `RedisStoreProbe`: a connection of its own, however busy the other one is.

        It repeats nothing: the probe is there to notice.
        """
        return self._client(_no_retry())

    def connect_for_signals(self) -> SignalClient:
        """Return a client for `RedisSignalBus`.

        Its connection is not mended behind the bus's back: signals are lost with a connection, so the bus
        has to know.
        """
        client = self.connect()
        if isinstance(client, ClusterClient):
            return ClusterSignals(client, lambda url: Redis.from_pool(self._pool(url)))
        return Redis.from_pool(self._pool(self.url))

    def _client(self, retry: Retry) -> Commands:
        def connect(url: str) -> StoreClient:
            return StoreClient(self._pool(url), retry, self.timeout_ms)

        cluster = ClusterUrl.parse(self.url)
        return connect(self.url) if cluster is None else ClusterClient(ClusterNodes(cluster, connect))

    def _pool(self, url: str) -> ConnectionPool:
        return ConnectionPool.from_url(
            url,
            retry=_no_retry(),
            # Whole commands are bounded, see `StoreClient`, and silence of signals by `RedisSignalBus`.
            socket_timeout=None,
            socket_connect_timeout=self.timeout_ms / 1_000,
            driver_info=_driver_info(),
            **self._credentials(),
        )

    def _credentials(self) -> dict[str, str]:
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value is not None}


@cache
def _driver_info() -> DriverInfo:
    """Return what the client library reads from the file of its version anew for each connection."""
    return DriverInfo()


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0, ())


async def initialise(client: Commands, partitions: int, keyring: Keyring) -> str:
    """Check the store, initialise an empty one, and return the epoch of its data.

    A store that is initialised already is only read: it may be full, or a replica. What it does not know yet
    is the key that this process begins to seal with.

    Raises:
        UnfitStore: it cannot hold tasks safely, was made with another partition count or
            schema, or has records that no key here opens.
        StoreUnavailable: it does not answer, or does not take the write that makes an empty one ours.
    """
    schema_here = SCHEMA if client.one_server else CLUSTER_SCHEMA
    with outages_mapped():
        if isinstance(client, ClusterClient):
            await check_cluster(client.nodes)
        else:
            await check_fitness(client)
        kept = await _identity(client)
        if not kept.keys() >= {"epoch", "partitions", "schema"}:
            # One field at a time: of several instances that start at once, one decides each.
            await client.hsetnx(keys.STORE, "epoch", secrets.token_urlsafe(9))
            await client.hsetnx(keys.STORE, "partitions", str(partitions))
            await client.hsetnx(keys.STORE, "schema", schema_here)
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
    if schema != schema_here:
        raise UnfitStore(_other_schema(schema, schema_here))
    in_use = noted(kept)
    check_keys(in_use, keyring)
    if keyring.newest.key_id not in in_use:
        await KeyRegistry(client).note_newest(keyring)
    return epoch


def _other_schema(found: str, here: str) -> str:
    remedy = FORMER_LAYOUT if (found, here) == (SCHEMA, CLUSTER_SCHEMA) else "give it an empty store"
    return f"the store's schema is {found!r}; this version reads {here!r}; {remedy}"


async def _identity(client: Commands) -> dict[str, str]:
    return {text(name): text(value) for name, value in (await client.hgetall(keys.STORE)).items()}
