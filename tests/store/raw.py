"""The store's raw contents: all four databases as they are in one instant, without the code under test.

On a cluster all keys are in database 0. They are shown in the databases that they have on a single server, by
their names, so that a test is the same for both.
"""

import re
from dataclasses import dataclass

from redis import Redis
from redis.cluster import RedisCluster

from kuueri_grpc.store.topology import ClusterUrl

DATABASES = 4
#: The database of each kind of key on a single server.
DATABASE_OF = {
    **dict.fromkeys(("store", "instances", "email", "project", "projects", "credentials", "closed"), 0),
    **dict.fromkeys(("due", "leases", "ended", "deadlines", "queue", "task", "index", "request", "claim"), 1),
    "config": 2,
    "timeline": 3,
    "feed": 3,
}
KEY = re.compile(r"(?:\{?kuueri\}?|\{(?P<partition>\d+)\}):(?P<family>[a-z]+)(?::(?P<name>.+))?")

#: ARGV: how many databases to read. One script, so that nothing changes or expires between the first key and
#: the last.
_DUMP = """#!lua flags=allow-cross-slot-keys,no-writes
local read = {
  string = function(key) return { redis.call('GET', key) } end,
  hash = function(key) return redis.call('HGETALL', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  stream = function(key)
    local items = {}
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      items[#items + 1] = entry[1]
      for _, field in ipairs(entry[2]) do
        items[#items + 1] = field
      end
    end
    return items
  end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
}
local databases = {}
for db = 0, tonumber(ARGV[1]) - 1 do
  redis.call('SELECT', db)
  local rows = {}
  for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind = redis.call('TYPE', key).ok
    rows[#rows + 1] = { key, kind, redis.call('PEXPIRETIME', key), read[kind](key) }
  end
  databases[db + 1] = rows
end
local time = redis.call('TIME')
return { math.floor((time[1] * 1000000 + time[2]) / 1000), databases, redis.call('INFO', 'keyspace') }
"""


@dataclass(frozen=True)
class Entry:
    """One key. `expires_ms` None: it has no time to live. One of the values is there, by its type."""

    kind: str
    expires_ms: int | None
    text: bytes = b""
    fields: dict[str, bytes] | None = None
    items: tuple[bytes, ...] | None = None
    scores: dict[str, int] | None = None


@dataclass(frozen=True)
class RawStore:
    """Keys of databases 0 to 3; `now_ms` is the store's clock when they were read."""

    now_ms: int
    databases: tuple[dict[str, Entry], ...]

    def names(self) -> set[tuple[int, str]]:
        return {(db, key) for db, entries in enumerate(self.databases) for key in entries}

    def names_with(self, part: str) -> set[tuple[int, str]]:
        """Return the keys that have `part` in their name or anywhere in what they hold."""
        return {(db, key) for db, key in self.names() if part in key or part in str(self.databases[db][key])}


def read(url: str) -> RawStore:
    """Read everything; of a cluster each primary in one instant, and nothing may be outside database 0."""
    cluster = ClusterUrl.parse(url)
    if cluster is None:
        with Redis.from_url(url) as client:
            now_ms, databases, _ = client.eval(_DUMP, 0, DATABASES)
            return RawStore(now_ms, tuple(_database(rows) for rows in databases))
    with RedisCluster.from_url(cluster.of(cluster.seeds[0])) as client:
        dumps = client.execute_command("EVAL", _DUMP, 0, 1, target_nodes=RedisCluster.PRIMARIES).values()
    merged: tuple[dict[str, Entry], ...] = tuple({} for _ in range(DATABASES))
    for _, (rows,), keyspace in dumps:
        _assert_one_database(keyspace)
        for key, entry in _database(rows).items():
            merged[_database_of(key)][key] = entry
    return RawStore(max(now_ms for now_ms, *_ in dumps), merged)


def read_node(client: Redis) -> dict[str, Entry]:
    """Read what one node of a cluster has, be it a replica; nothing may be outside database 0."""
    client.execute_command("READONLY")  # type: ignore[no-untyped-call]
    _, (rows,), keyspace = client.eval(_DUMP, 0, 1)
    _assert_one_database(keyspace)
    return _database(rows)


def _assert_one_database(keyspace: bytes) -> None:
    found = re.findall(rb"^db[1-9].*", keyspace, re.MULTILINE)
    assert not found, f"a cluster has keys outside database 0: {found}"


def _database_of(key: str) -> int:
    """Return where a key is on a single server; 0 if it is none of ours."""
    match = KEY.fullmatch(key)
    return DATABASE_OF.get(match["family"], 0) if match else 0


def _database(rows: list[tuple[bytes, bytes, int, list[bytes]]]) -> dict[str, Entry]:
    return {key.decode(): _entry(kind, expires_ms, value) for key, kind, expires_ms, value in rows}


def _entry(kind: bytes, expires_ms: int, value: list[bytes]) -> Entry:
    ttl = expires_ms if expires_ms >= 0 else None
    match kind:
        case b"hash":
            return Entry("hash", ttl, fields=_pairs(value))
        case b"zset":
            return Entry("zset", ttl, scores={name: int(score) for name, score in _pairs(value).items()})
        case b"list" | b"stream":
            return Entry(kind.decode(), ttl, items=tuple(value))
        case b"set":
            return Entry("set", ttl, items=tuple(sorted(value)))
        case _:
            return Entry("string", ttl, text=value[0])


def _pairs(flat: list[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
