"""The nodes of a Valkey cluster: a client for each, and which of them serves what."""

import asyncio
import random
from collections.abc import Callable, Iterable

from redis.exceptions import ConnectionError as ConnectionLost

from kuueri_grpc.store.client import StoreClient
from kuueri_grpc.store.errors import OUTAGES
from kuueri_grpc.store.topology import ClusterUrl, NodeAddress, Topology


class ClusterNodes:
    """A node is spoken to exactly as a store of one server is, through a client of its own.

    Args:
        cluster: where some of the nodes are; the others are learned from them.
        connect: makes the client of the node with that URL; it must not connect before it is used.
    """

    def __init__(self, cluster: ClusterUrl, connect: Callable[[str], StoreClient]) -> None:
        self._cluster = cluster
        self._connect = connect
        self._clients: dict[NodeAddress, StoreClient] = {}
        self._topology: Topology | None = None
        self._looking: asyncio.Task[Topology] | None = None
        self._failed: set[NodeAddress] = set()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    def url(self, address: NodeAddress) -> str:
        """Return the URL of one node."""
        return self._cluster.of(address)

    def client(self, address: NodeAddress) -> StoreClient:
        """Return the client of one node."""
        if address not in self._clients:
            self._clients[address] = self._connect(self.url(address))
        return self._clients[address]

    def note(self, address: NodeAddress, *, answered: bool) -> None:
        """Remember whether a node answered: those that did not are asked last for the topology."""
        if answered:
            self._failed.discard(address)
        else:
            self._failed.add(address)

    async def topology(self) -> Topology:
        """Return who serves what, as it was last seen. Raises `RedisError`, see `look`."""
        return self._topology or await self.look()

    async def look(self) -> Topology:
        """Ask a node who serves what; all who want to know at a time share one look.

        Raises:
            RedisError: no node answers.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        # Whoever gives up waiting does not take the look away from the others.
        return await asyncio.shield(self._looking)

    def _looked(self, look: asyncio.Task[Topology]) -> None:
        self._looking = None
        if not look.cancelled():
            look.exception()  # those who wait are told; if nobody does, it does not matter

    async def _look(self) -> Topology:
        refusal: BaseException | None = None
        for address in self._by_health():
            try:
                # Two words, so that the library leaves the answer as it is.
                answer = await self.client(address).execute_command("CLUSTER", "SLOTS")
            except OUTAGES as error:
                refusal = error
                self.note(address, answered=False)
                continue
            self.note(address, answered=True)
            self._topology = Topology.read(answer, address)
            await self._forget_strangers(self._topology.nodes)
            return self._topology
        raise ConnectionLost(f"no node of the cluster answers ({refusal})") from refusal

    def _by_health(self) -> list[NodeAddress]:
        """Return all nodes that may know, those first that answered the last time, in random order.

        The seeds are kept for the day when all nodes have moved to other addresses.
        """
        known = self._topology.nodes if self._topology else frozenset()
        candidates = [*known, *(seed for seed in self._cluster.seeds if seed not in known)]
        random.shuffle(candidates)
        return sorted(candidates, key=lambda address: address in self._failed)

    async def _forget_strangers(self, nodes: Iterable[NodeAddress]) -> None:
        for address in self._clients.keys() - set(nodes) - set(self._cluster.seeds):
            await self._clients.pop(address).aclose()
