"""What a server that starts says of a store that may lose what it acknowledged."""

import logging
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.durability import warn_of_weak_durability
from tests.cluster.nodes import Cluster
from tests.outages.servers import serving
from tests.outages.valkeys import Valkey


async def said_of(url: str, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return what is logged of a store, with the levels."""
    caplog.set_level(logging.INFO, logger="kuueri_grpc.store.durability")
    async with StoreAddress(url).connect_for_checks() as client:
        await warn_of_weak_durability(client)
    return [(record.levelno, record.getMessage()) for record in caplog.records]


async def test_nothing_is_said_of_a_store_that_loses_nothing(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    assert await said_of(valkey.url, caplog) == []


@pytest.mark.parametrize("valkey", [{"appendfsync": "everysec"}], indirect=True)
async def test_a_server_says_it_when_it_starts(tmp_path: Path, valkey: Valkey) -> None:
    async with serving(tmp_path / "server", valkey.url) as (server, _):
        assert re.search(r"INFO .*syncs to disk once a second .*event=store_syncs_later", server.log)


@pytest.mark.parametrize(
    ("permissions", "said"),
    [
        ("+@all -config", "does not show when it syncs its append-only file (CONFIG is not permitted)"),
        ("+@all -config -info", "does not show whether it keeps an append-only file"),
    ],
)
async def test_a_store_that_does_not_show_its_settings(
    valkey: Valkey, caplog: pytest.LogCaptureFixture, permissions: str, said: str
) -> None:
    async with valkey.client() as store:
        await store.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "tasks", "on", ">pw", "~*", "&*", *permissions.split()
        )
    ((level, message),) = await said_of(f"redis://tasks:pw@127.0.0.1:{valkey.port}", caplog)
    assert level == logging.INFO
    assert said in message


@pytest.mark.parametrize("valkey", [{"appendonly": "no"}], indirect=True)
async def test_what_info_shows_where_config_is_not_permitted(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with valkey.client() as store:
        await store.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "tasks", "on", ">pw", "~*", "&*", "+@all", "-config"
        )
    ((level, message),) = await said_of(f"redis://tasks:pw@127.0.0.1:{valkey.port}", caplog)
    assert level == logging.WARNING
    assert "keeps no append-only file" in message


async def test_the_nodes_of_a_cluster_are_named(
    valkey_cluster: Cluster, cluster_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    weak = valkey_cluster.primaries[:2]
    clients: list[Redis] = [node.client() for node in weak]
    try:
        for client in clients:
            await client.config_set("appendfsync", "everysec")
        ((level, message),) = await said_of(cluster_url, caplog)
    finally:
        for client in clients:
            await client.config_set("appendfsync", "always")
            await client.aclose()
    assert level == logging.INFO
    named = re.findall(r"127\.0\.0\.1:\d+", message)
    assert sorted(named) == sorted(node.address for node in weak)
