"""Which node of a Valkey cluster serves which hash slots, and how the nodes are addressed."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

#: `redis+cluster://` and `rediss+cluster://` (TLS): the addresses of some of the cluster's nodes.
_SUFFIX = "+cluster"
_DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True, order=True)
class NodeAddress:
    """Where one node listens for clients."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """The address of a cluster: where some of its nodes are, and what holds for all of them.

    `scheme`: `redis` or `rediss`. `userinfo`: credentials with their `@`, as in the URL.
    """

    scheme: str
    userinfo: str = field(repr=False)
    seeds: tuple[NodeAddress, ...]
    query: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """Return what a `redis+cluster://[user:password@]host[:port][,host[:port]...][?options]` says.

        None if it is the URL of a single server.
        """
        parts = urlsplit(url)
        if not parts.scheme.endswith(_SUFFIX):
            return None
        userinfo, at, hosts = parts.netloc.rpartition("@")
        seeds = tuple(_seed(urlsplit(f"//{host}")) for host in hosts.split(","))
        return cls(parts.scheme.removesuffix(_SUFFIX), userinfo + at, seeds, parts.query)

    def of(self, node: NodeAddress) -> str:
        """Return the URL of one node."""
        return urlunsplit((self.scheme, f"{self.userinfo}{node}", "", self.query, ""))


def _seed(parts: SplitResult) -> NodeAddress:
    return NodeAddress(parts.hostname or "", parts.port or _DEFAULT_PORT)


@dataclass(frozen=True, slots=True)
class Topology:
    """The owners of the slots, as one node sees them.

    `starts`: the first slot of each range, ascending; `ends` and `owners` go with it. `replicas`: nodes
    that own nothing now and may do so after a fail-over.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    owners: tuple[NodeAddress, ...]
    replicas: frozenset[NodeAddress]

    @classmethod
    def read(cls, answer: Iterable[Sequence[Any]], asked: NodeAddress) -> Self:
        """Read the answer of `CLUSTER SLOTS` by the node `asked`."""
        ranges = sorted(
            (first, last, [_node(node, asked) for node in nodes]) for first, last, *nodes in answer
        )
        owners = tuple(nodes[0] for _, _, nodes in ranges)
        followers = {node for _, _, nodes in ranges for node in nodes[1:]}
        return cls(
            starts=tuple(first for first, _, _ in ranges),
            ends=tuple(last for _, last, _ in ranges),
            owners=owners,
            replicas=frozenset(followers.difference(owners)),
        )

    @property
    def primaries(self) -> frozenset[NodeAddress]:
        """The nodes that own slots."""
        return frozenset(self.owners)

    @property
    def nodes(self) -> frozenset[NodeAddress]:
        """All nodes."""
        return self.primaries | self.replicas

    def owner(self, slot: int) -> NodeAddress | None:
        """Return the node that serves a slot; None if no node does."""
        place = bisect_right(self.starts, slot) - 1
        return self.owners[place] if place >= 0 and slot <= self.ends[place] else None


def _node(node: Sequence[Any], asked: NodeAddress) -> NodeAddress:
    host, port = node[0], node[1]
    # A node that does not know the name it is reached by leaves it out, or says "?" of another.
    name = host.decode() if isinstance(host, bytes) else host
    return NodeAddress(name if name and name != "?" else asked.host, int(port))
