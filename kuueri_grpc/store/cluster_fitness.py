"""Whether a cluster may hold tasks: that it is one, is whole, and that each node of it is fit."""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Any

from redis.exceptions import ClusterDownError, RedisError

from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.cluster import ClusterClient, Command, slot_of
from kuueri_grpc.store.cluster_nodes import ClusterNodes
from kuueri_grpc.store.errors import OUTAGES
from kuueri_grpc.store.fitness import check_fitness, hidden_as_nothing
from kuueri_grpc.store.topology import NodeAddress

#: What to do about a cluster that an earlier version has filled.
FORMER_LAYOUT = (
    "an earlier version kept records in databases 1 to 3 of a cluster; let that version finish all tasks, "
    "and give this one an empty cluster"
)
#: What a server says that is in no cluster.
_NO_CLUSTER = "cluster support disabled"
#: What INFO says of each database that has keys.
_DATABASE = re.compile(r"db(\d+)")


async def check_cluster(nodes: ClusterNodes) -> None:
    """Return if the cluster serves and all its nodes can hold tasks safely, the replicas as well.

    A node that does not answer is left out: its tasks wait until it, or its replica, serves them.

    Raises:
        UnfitStore: it is no cluster, or one of its nodes is not fit.
        RedisError: it does not answer, or says that it does not serve.
    """
    try:
        topology = await nodes.look()
    except RedisError as error:
        if _NO_CLUSTER in str(error):
            raise UnfitStore(
                "the store is a server and no cluster; give its address as redis://host:port"
            ) from error
        raise
    states = await asyncio.gather(*(_state(nodes, address) for address in sorted(topology.nodes)))
    if "ok" not in states:
        raise ClusterDownError("CLUSTERDOWN no node of the cluster says that it is whole (cluster_state:ok)")


async def serves_in_part(client: ClusterClient, partitions: int) -> bool:
    """Return whether any primary takes writes: then some partitions are served."""
    with contextlib.suppress(RedisError):
        topology = await client.nodes.look()
        served_by = {topology.owner(slot_of(keys.project(p, ""))): p for p in range(partitions)}
        # There is no such field, and no such key. A write all the same, so it is refused whenever writes are.
        writes = [Command(("HDEL", keys.project(p, ""), "probe"), {}) for p in served_by.values()]
        return not all(isinstance(answer, Exception) for answer in await client.run(writes))
    return False


async def _state(nodes: ClusterNodes, address: NodeAddress) -> str | None:
    """Return the cluster's state as a fit node sees it; None if the node does not answer."""
    client = nodes.client(address)
    try:
        await check_fitness(client, clustered=True)
        check_keyspace(await hidden_as_nothing(client.info("keyspace")))
        answer = await client.execute_command("CLUSTER", "INFO")
    except UnfitStore as error:
        raise UnfitStore(f"node {address} of the cluster: {error}") from None
    except OUTAGES:
        return None
    facts = dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
    return facts.get("cluster_state")


def check_keyspace(keyspace: Mapping[str, Any]) -> None:
    """Check what `INFO keyspace` of a node says: all keys of a cluster are in database 0.

    Keys in others can make a slot that moves arrive damaged (docs/adr/0025-one-database.md), and
    a version before kept its records there, which this one would not see.

    Raises:
        UnfitStore: there are keys in other databases.
    """
    found = [
        f"{facts['keys']} in database {match[1]}"
        for name, facts in keyspace.items()
        if (match := _DATABASE.fullmatch(name)) and match[1] != "0"
    ]
    if found:
        raise UnfitStore(
            f"it has keys outside database 0 ({', '.join(found)}), which is the only one that may be used on "
            f"a cluster. If they are ours: {FORMER_LAYOUT}. If they are another program's: remove them, and "
            "set cluster-databases to 1"
        )
