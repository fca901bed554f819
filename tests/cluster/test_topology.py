"""Addresses of clusters and nodes, and who serves which slot."""

import pytest

from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.topology import ClusterUrl, NodeAddress, Topology

A, B, C, D = (NodeAddress("10.0.0.1", port) for port in (7001, 7002, 7003, 7004))


@pytest.mark.parametrize("url", ["redis://h:1", "rediss://h", "unix:///tmp/s"])
def test_the_address_of_a_server_is_none_of_a_cluster(url: str) -> None:
    assert ClusterUrl.parse(url) is None


@pytest.mark.parametrize(
    ("url", "seeds", "of_a_node"),
    [
        ("redis+cluster://h", [("h", 6379)], "redis://n:1"),
        ("redis+cluster://h:7,i:8/", [("h", 7), ("i", 8)], "redis://n:1"),
        ("rediss+cluster://[::1]:7,i", [("::1", 7), ("i", 6379)], "rediss://n:1"),
        ("redis+cluster://u:p%40@h:7?protocol=3", [("h", 7)], "redis://u:p%40@n:1?protocol=3"),
        ("redis+cluster://:a,b@h:7", [("h", 7)], "redis://:a,b@n:1"),
    ],
)
def test_what_a_cluster_url_says(url: str, seeds: list[tuple[str, int]], of_a_node: str) -> None:
    cluster = ClusterUrl.parse(url)

    assert cluster is not None
    assert [(seed.host, seed.port) for seed in cluster.seeds] == seeds
    assert cluster.of(NodeAddress("n", 1)) == of_a_node


def test_a_node_with_a_numeric_address_of_version_6_is_written_in_brackets() -> None:
    cluster = ClusterUrl.parse("redis+cluster://h")

    assert cluster is not None
    assert cluster.of(NodeAddress("::1", 7)) == "redis://[::1]:7"


def test_a_location_names_the_seeds_and_no_password() -> None:
    assert StoreAddress("redis+cluster://u:secret@a:1,[::1]:2").location == "a:1,[::1]:2"


def test_slots_have_owners() -> None:
    answer = [
        [100, 199, [b"10.0.0.1", 7002, b"id"], [b"10.0.0.1", 7003, b"id", []]],
        [0, 99, [b"10.0.0.1", 7001, b"id"]],
        [300, 300, [b"10.0.0.1", 7001, b"id"], [b"10.0.0.1", 7004, b"id"]],
    ]

    topology = Topology.read(answer, A)

    assert [topology.owner(slot) for slot in (0, 99, 100, 199, 300)] == [A, A, B, B, A]
    assert [topology.owner(slot) for slot in (200, 299, 301, 16_383)] == [None] * 4
    assert topology.primaries == {A, B}
    assert topology.replicas == {C, D}
    assert topology.nodes == {A, B, C, D}


def test_a_cluster_without_slots_has_no_owners() -> None:
    assert Topology.read([], A).owner(0) is None


@pytest.mark.parametrize("name", [None, b"", b"?"])
def test_a_node_that_does_not_know_its_name_is_where_it_was_asked(name: bytes | None) -> None:
    assert Topology.read([[0, 1, [name, 7002, b"id"]]], A).owner(0) == B


def test_a_node_may_have_a_name() -> None:
    assert Topology.read([[0, 1, [b"store-1.example", 7, b"id"]]], A).owner(0) == NodeAddress(
        "store-1.example", 7
    )


def test_a_replica_that_took_over_elsewhere_is_no_replica() -> None:
    answer = [[0, 0, [b"10.0.0.1", 7001], [b"10.0.0.1", 7002]], [1, 1, [b"10.0.0.1", 7002]]]

    assert Topology.read(answer, A).replicas == frozenset()
