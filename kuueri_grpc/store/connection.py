"""Connect to the store, check that it is fit, and remember what it was initialised with."""

import secrets
from dataclasses import dataclass, field

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from kuueri_grpc.store import keys
from kuueri_grpc.store.errors import CALL_TIMEOUT_S, outages_mapped

#: Commands in flight to the store per process; more wait their turn.
_CONNECTIONS = 64
SCHEMA = "1"


class UnfitStore(Exception):
    """The store cannot be used as it is; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the store is: redis://, rediss:// or unix://, and credentials that are not in the URL."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def connect(self) -> Redis:
        """Return a client for commands; it connects when first used."""
        pool = BlockingConnectionPool.from_url(
            self.url,
            max_connections=_CONNECTIONS,
            timeout=CALL_TIMEOUT_S,
            socket_timeout=None,  # see `outages_mapped`
            socket_connect_timeout=CALL_TIMEOUT_S,
            **self._credentials(),
        )
        return Redis.from_pool(pool)

    def connect_for_signals(self) -> Redis:
        """Return a client for `RedisSignalBus`.

        Its connection may be silent for long, and is not mended behind the bus's back: signals are lost
        with a connection, so the bus has to know.
        """
        pool = ConnectionPool.from_url(
            self.url,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CALL_TIMEOUT_S,
            **self._credentials(),
        )
        return Redis.from_pool(pool)

    def _credentials(self) -> dict[str, str]:
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value is not None}


async def initialise(client: Redis, partitions: int) -> str:
    """Check the store, initialise an empty one, and return its epoch.

    Raises:
        UnfitStore: it evicts keys, has too few databases, or was made with another partition count.
        StoreUnavailable: it does not answer.
    """
    async with outages_mapped():
        policy = await _configured(client, "maxmemory-policy", "noeviction")
        databases = int(await _configured(client, "databases", "16"))
    if policy != "noeviction":
        raise UnfitStore(
            f"the store's maxmemory-policy is {policy!r}: it would drop tasks when memory runs short; "
            "set it to 'noeviction'"
        )
    if databases < 4:
        raise UnfitStore(f"the store has {databases} databases; 4 are needed (0 to 3)")
    async with outages_mapped():
        for field, value in (
            ("epoch", secrets.token_urlsafe(9)),
            ("partitions", str(partitions)),
            ("schema", SCHEMA),
        ):
            await client.hsetnx(keys.STORE, field, value)
        kept = {text(name): text(value) for name, value in (await client.hgetall(keys.STORE)).items()}
    if int(kept["partitions"]) != partitions:
        raise UnfitStore(
            f"the store was initialised with {kept['partitions']} partitions, this server is set to "
            f"{partitions}; set DATABASE.PARTITIONS to {kept['partitions']}"
        )
    if kept["schema"] != SCHEMA:
        raise UnfitStore(f"the store's schema is {kept['schema']!r}; this version reads {SCHEMA!r}")
    return str(kept["epoch"])


def text(value: bytes | str | None) -> str:
    """Return an answer of the store as text; None as the empty one."""
    return value.decode() if isinstance(value, bytes) else value or ""


async def _configured(client: Redis, name: str, default: str) -> str:
    """Return a server setting; the default where a managed store hides CONFIG."""
    try:
        answer = await client.config_get(name)
    except ResponseError:
        return default
    # Without decoding of answers the names come as bytes, whatever the library's types say.
    return {text(key): text(value) for key, value in answer.items()}.get(name, default)
