"""Whether a server may hold tasks at all: what it is, how it is set, and what it would do to them."""

from collections.abc import Mapping
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.permissions import check_permissions

DATABASES = 4
#: The first releases with script flags: a script says whether it may run while memory is full.
_OLDEST = {"Valkey": (7, 2), "Redis": (7, 0)}
_NEEDED = "Valkey 7.2 or newer, or Redis 7.0 or newer, is needed"
_SETTINGS = ("maxmemory-policy", "databases")


async def check_fitness(client: Commands, *, clustered: bool = False) -> None:
    """Return if the server can hold tasks safely; ask it again whenever it may be another one.

    What a managed store hides from us is taken to be as it should.

    Args:
        client: leads to the server.
        clustered: whether it is to be a node of a cluster.

    Raises:
        UnfitStore: it cannot; the text says what was found and what is needed.
        RedisError, OSError, TimeoutError: it does not answer.
    """
    check_version(await hidden_as_nothing(client.info("server")))
    cluster = await hidden_as_nothing(client.info("cluster"))
    settings = await _settings(client)
    is_clustered = str(cluster.get("cluster_enabled", int(clustered))) == "1"
    if is_clustered and not clustered:
        raise UnfitStore("the store is a node of a cluster; give its address as redis+cluster://host:port")
    if not is_clustered:
        _check_databases(settings)
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        raise UnfitStore(
            f"the store's maxmemory-policy is {policy!r}: it would drop tasks when memory runs short; "
            "set it to 'noeviction'"
        )
    await check_permissions(client)


def text(value: bytes | str | None) -> str:
    """Return an answer of the store as text; None as the empty one."""
    return value.decode() if isinstance(value, bytes) else value or ""


def check_version(server: Mapping[str, Any]) -> None:
    """Check what `INFO server` says; nothing is said by a managed store that hides it.

    Raises:
        UnfitStore: it is too old.
    """
    if not server:
        return
    name, version = product_of(server)
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST[name]:
        raise UnfitStore(f"the store is {name} {version}; {_NEEDED}")


def product_of(server: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and version of a server, as its `INFO server` has them."""
    # Others that speak the protocol name a version of Redis that they are like.
    name = "Valkey" if "valkey_version" in server else "Redis"
    return name, str(server.get("valkey_version") or server.get("redis_version", "0"))


def _check_databases(settings: Mapping[str, str]) -> None:
    databases = int(settings.get("databases", 16))
    if databases < DATABASES:
        raise UnfitStore(f"the store has {databases} databases; {DATABASES} are needed (0 to 3)")


async def _settings(client: Commands) -> dict[str, str]:
    # Without decoding of answers the names come as bytes, whatever the library's types say.
    answer = await hidden_as_nothing(client.config_get(*_SETTINGS))
    return {text(name): text(value) for name, value in answer.items()}


async def hidden_as_nothing(asked: Any) -> Mapping[Any, Any]:
    """Return the answer; an empty one where a managed store, or its ACL, does not let us ask."""
    try:
        answer: Mapping[Any, Any] = await asked
    except NoPermissionError:
        return {}
    except ResponseError as error:
        if "unknown" in str(error).lower():
            return {}
        raise
    return answer
