"""A cluster in the place of the one store that the faults are done to: each is done to one node of it.

No fault here makes a replica take over before it has everything: `tests/cluster/test_failover.py` does that.
"""

import random

from redis.asyncio import Redis

from tests.cluster.nodes import Cluster, Node, ask, slot_of


class ClusterStore:
    """`tests.outages.valkeys.Valkey`, as far as faults know it."""

    def __init__(self, made: Cluster, draw: random.Random) -> None:
        self.made = made
        self._draw = draw
        self._hit: Node | None = None

    @property
    def url(self) -> str:
        return self.made.url

    def client(self) -> Redis:
        """Return a client of any node."""
        return self._draw.choice(self.made.nodes).client()

    async def kill(self) -> None:
        self._hit = self._draw.choice(self.made.nodes)
        await self._hit.kill()

    async def start(self) -> None:
        assert self._hit is not None
        await self._hit.start()

    async def loaded(self) -> None:
        """It has: a node says that it is ready when it has read its data."""

    def freeze(self) -> None:
        self._hit = self._draw.choice(self.made.nodes)
        self._hit.freeze()

    def thaw(self) -> None:
        assert self._hit is not None
        self._hit.thaw()

    def stop(self) -> None:
        """Its processes end with the cluster."""

    async def fail_over_in_order(self) -> None:
        """A replica takes over when it has all that its primary has: nothing is lost."""
        replicas = [node for node in self.made.nodes if not await self._is_primary(node)]
        await self.made.hand_over(self._draw.choice(replicas))

    async def move_a_slot(self, partitions: int) -> None:
        """All keys of a partition go over to another primary."""
        slot = slot_of(f"{{{self._draw.randrange(partitions)}}}")
        source = await self._owner(slot)
        others = [node for node in self.made.nodes if node is not source and await self._is_primary(node)]
        await self.made.move_slot(slot, source, self._draw.choice(others))

    async def _is_primary(self, node: Node) -> bool:
        async with node.client() as client:
            role = await ask(client, "ROLE")
        return bool(role[0] == b"master")

    async def _owner(self, slot: int) -> Node:
        async with self.client() as client:
            # Two words, so that the library leaves the answer as it is.
            ranges = await ask(client, "CLUSTER", "SLOTS")
        ports = {owner[1] for first, last, owner, *_ in ranges if first <= slot <= last}
        return next(node for node in self.made.nodes if node.port in ports)
