"""A cluster whose ACL permits the server what it needs and nothing else."""

import re
from pathlib import Path

import pytest

from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store.connection import StoreAddress, initialise
from tests.acceptance.targets import listening
from tests.cluster.nodes import Cluster, cluster
from tests.keys import KEYRING
from tests.outages.servers import serving
from tests.outages.whole_life import DOCUMENT, PASSWORD, RULES, command_of, whole_life

pytestmark = pytest.mark.timeout(240)

MORE = re.search(r"A cluster needs `([^`]+)` as well", DOCUMENT)
assert MORE is not None


async def permit(servers: Cluster, *rules: str) -> str:
    for node in servers.nodes:
        async with node.client() as client:
            await command_of(client)("ACL SETUSER", "tasks", "reset", "on", f">{PASSWORD}", *rules)
    return servers.url.replace("://", f"://tasks:{PASSWORD}@")


async def test_the_documented_rule_permits_a_whole_life(tmp_path: Path) -> None:
    assert MORE is not None
    async with cluster(tmp_path, primaries=3, replicas=0) as servers, listening() as target:
        url = await permit(servers, *RULES, *MORE[1].split())
        async with serving(tmp_path / "server", url) as (served, channel):
            await whole_life(channel, target, url, tmp_path)
            assert "store_outage_began" not in served.log


async def test_a_node_that_permits_less_is_named(tmp_path: Path) -> None:
    assert MORE is not None
    async with cluster(tmp_path, primaries=3, replicas=0) as servers:
        url = await permit(servers, *RULES, *MORE[1].split())
        node = servers.nodes[2]
        async with node.client() as client:
            await command_of(client)("ACL SETUSER", "tasks", "-zadd")
        async with StoreAddress(url).connect_for_checks() as client:
            with pytest.raises(UnfitStore, match=rf"node {node.address} of the cluster: .* to run ZADD;"):
                await initialise(client, 8, KEYRING)
