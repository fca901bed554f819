"""Whether a replica has what its primary has."""

import asyncio

from redis import Redis

from tests.cluster.nodes import Cluster, Node
from tests.store.raw import KEY, Entry, read_node

#: What changes by itself: heartbeats of servers, and what expires within a minute.
_PASSING = frozenset({"instances", "claim"})


async def assert_equal(made: Cluster, primary: Node, replica: Node) -> int:
    """Compare all keys of a primary with a replica's; return how many there are. Nothing else may write."""
    await made.caught_up(primary, replica)
    there, here = await asyncio.gather(*(asyncio.to_thread(_keys, node) for node in (primary, replica)))
    differing = {name for name in there.keys() | here.keys() if there.get(name) != here.get(name)}
    assert not differing, (
        f"{len(differing)} of {len(there)} keys of {primary.address} differ at its replica "
        f"{replica.address}: {sorted(differing)[:10]}"
    )
    return len(there)


def _keys(node: Node) -> dict[str, Entry]:
    with Redis(port=node.port) as client:
        return {name: entry for name, entry in read_node(client).items() if not _passes(name)}


def _passes(name: str) -> bool:
    match = KEY.fullmatch(name)
    return match is not None and match["family"] in _PASSING
