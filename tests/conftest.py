"""Fixtures for every folder of tests: one real Valkey per test process, run as the application runs it.

With `--store cluster` it is a cluster of three primaries and three replicas instead.
"""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis import Redis
from redis.cluster import RedisCluster

from kuueri_grpc.store.embedded import EmbeddedValkey
from tests.cluster.nodes import Cluster, cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=("server", "cluster"), default="server", help="what the store is")


def pytest_configure(config: pytest.Config) -> None:
    # As `kuueri` has it, and before anything imports gRPC: a peer that leaves is no news on standard error.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    config.addinivalue_line("markers", "one_server(why): not with --store cluster")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    """The store of this test process (each xdist worker has its own), started when first asked for.

    Tests that stop, freeze or fill a store start one of their own instead.
    """
    async with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as store:
        yield store


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A cluster of this test process, formed when first asked for. Tests that kill nodes form their own."""
    async with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def cluster_url(valkey_cluster: Cluster) -> str:
    """Address of an empty cluster."""
    with RedisCluster(port=valkey_cluster.nodes[0].port, host="127.0.0.1") as client:
        client.flushall()
    return valkey_cluster.url


@pytest.fixture
def store_url(request: pytest.FixtureRequest) -> str:
    """Address of an empty store, for sync and async tests alike.

    It is emptied before a test, not after, so that what a failed test left can be looked at.
    """
    if request.config.getoption("--store") == "cluster":
        if marker := request.node.get_closest_marker("one_server"):
            pytest.skip(*marker.args or ["of a store of one server"])
        url: str = request.getfixturevalue("cluster_url")
        return url
    embedded_valkey: EmbeddedValkey = request.getfixturevalue("embedded_valkey")
    with Redis.from_url(embedded_valkey.url) as client:
        client.flushall()
    return embedded_valkey.url
