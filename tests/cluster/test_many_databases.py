"""Why all keys of a cluster are in database 0: what a slot that moves loses where keys are in several.

No code of the server takes part. See docs/adr/0025-one-database.md.
"""

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests.cluster.nodes import Cluster, Node, ask, cluster, slot_of

KEYS = 2_000
_FILL = """
local count = tonumber(table.remove(ARGV, 1))
for _, db in ipairs(ARGV) do
  redis.call('SELECT', db)
  for i = 1, count do
    redis.call('SET', KEYS[1] .. i, db)
  end
end
"""
_WRITE = """
for _, db in ipairs(ARGV) do
  redis.call('SELECT', db)
  redis.call('SET', KEYS[1], db)
end
"""
_MENDED = (
    "Valkey 9.1: what a primary gets of a slot and what it writes itself meanwhile are one stream for its "
    "replicas, in which the SELECTs of one count for the other. If this passes, the store's server has been "
    "mended: say so in docs/adr/0025-one-database.md and docs/cluster.md, and remove the mark"
)


@pytest.mark.parametrize(
    "databases",
    [
        # RedisError: the replica has crashed.
        pytest.param(
            (0, 1, 2, 3),
            marks=pytest.mark.xfail(strict=True, raises=(AssertionError, RedisError), reason=_MENDED),
        ),
        pytest.param((0,)),
    ],
)
async def test_a_slot_moves_to_a_primary_that_takes_writes(
    tmp_path: Path, databases: tuple[int, ...]
) -> None:
    """Its replica has afterwards what it has."""
    async with cluster(tmp_path, "--cluster-databases", "16", primaries=2, replicas=2) as made:
        source, target = made.primaries
        moves, stays = (tag_on(made, node) for node in made.primaries)
        async with source.client() as client:
            await ask(client, "EVAL", _FILL, 1, f"{moves}:", KEYS, *databases)
        moved = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(write_until(moved, target, f"{stays}:written", databases))
            await made.move_slot(slot_of(moves), source, target)
            moved.set()

        await made.caught_up(target)
        assert await sizes(made.successor(target)) == await sizes(target)
        assert await sizes(target) == {f"db{db}": KEYS + 1 for db in databases}


def tag_on(made: Cluster, node: Node) -> str:
    """Return a hash tag whose slot a node was given."""
    return next(tag for tag in (f"{{{number}}}" for number in range(1_000)) if made.owner(tag) is node)


async def write_until(over: asyncio.Event, node: Node, key: str, databases: tuple[int, ...]) -> None:
    async with node.client() as client:
        while not over.is_set():
            await ask(client, "EVAL", _WRITE, 1, key, *databases)


async def sizes(node: Node) -> dict[str, int]:
    """Return how many keys a node has in each database."""
    async with node.client() as client:
        return {name: facts["keys"] for name, facts in (await client.info("keyspace")).items()}
