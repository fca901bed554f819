"""What a server finds when it starts: a store that is not there, not ready, not fit, or not ours."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store.connection import SCHEMA
from kuueri_grpc.store.fitness import check_version
from tests.acceptance.caller import register
from tests.acceptance.served import PATIENCE_S, command, environment
from tests.keys import ENVIRONMENT
from tests.outages.calls import refused_by_outage, task_to
from tests.outages.conftest import System
from tests.outages.servers import logged, serving
from tests.outages.valkeys import Valkey, free_port, running

PASSWORD = "correct-horse"


async def refused_start(directory: Path, url: str, env: Mapping[str, str] | None = None) -> str:
    """Start a server, which must give up; return what it says."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [command("kuueri"), "serve", "--port", "0", "--workers", "1", "--redis-url", url],
        cwd=directory,
        env=environment(directory, {**ENVIRONMENT, **(env or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert PASSWORD not in ended.stdout + ended.stderr
    return ended.stderr


@pytest.mark.parametrize("valkey", [{"maxmemory-policy": "allkeys-lfu"}], indirect=True)
async def test_evicting_policy_refuses_to_start(tmp_path: Path, valkey: Valkey) -> None:
    said = await refused_start(tmp_path, valkey.url)
    assert "maxmemory-policy is 'allkeys-lfu'" in said
    assert "'noeviction'" in said


@pytest.mark.parametrize("valkey", [{"databases": 2}], indirect=True)
async def test_too_few_databases_refuse_to_start(tmp_path: Path, valkey: Valkey) -> None:
    assert "the store has 2 databases; 4 are needed" in await refused_start(tmp_path, valkey.url)


@pytest.mark.parametrize("valkey", [{"cluster-enabled": "yes", "cluster-port": free_port()}], indirect=True)
async def test_a_node_of_a_cluster_refuses_to_start_as_a_server(tmp_path: Path, valkey: Valkey) -> None:
    said = await refused_start(tmp_path, valkey.url)
    assert "the store is a node of a cluster; give its address as redis+cluster://host:port" in said


async def test_other_partition_count_refuses_to_start(tmp_path: Path, valkey: Valkey) -> None:
    async with valkey.client() as store:
        await store.hset("kuueri:store", mapping={"epoch": "e", "partitions": 12, "schema": SCHEMA})
    said = await refused_start(tmp_path, valkey.url)
    assert "initialised with 12 partitions, this server is set to 256; set DATABASE.PARTITIONS to 12" in said


@pytest.mark.parametrize("valkey", [{"requirepass": "another"}], indirect=True)
async def test_wrong_password_is_said_and_not_shown(tmp_path: Path, valkey: Valkey) -> None:
    said = await refused_start(tmp_path, f"redis://:{PASSWORD}@127.0.0.1:{valkey.port}")
    assert f"the store at 127.0.0.1:{valkey.port} does not serve" in said
    assert "invalid username-password pair" in said


async def test_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    port = free_port()
    said = await refused_start(tmp_path, f"redis://user:{PASSWORD}@127.0.0.1:{port}")
    assert f"the store at 127.0.0.1:{port} does not serve" in said
    assert "refused" in said


async def test_store_that_starts_later_is_waited_for(tmp_path: Path) -> None:
    valkey, attempts = Valkey(tmp_path / "store"), asyncio.Semaphore(0)

    async def not_yet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        attempts.release()

    async def start_after_three_attempts() -> None:
        async with await asyncio.start_server(not_yet, "127.0.0.1", valkey.port):
            for _ in range(3):
                await attempts.acquire()
        await valkey.start()

    starting = asyncio.create_task(start_after_three_attempts())
    try:
        async with serving(tmp_path / "server", valkey.url) as (_, channel):
            await register(channel)
            await starting
    finally:
        valkey.stop()


async def test_store_that_loads_is_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path / "store", appendonly="no") as valkey:
        async with valkey.client() as store:
            await store.mset({f"key-{i}": os.urandom(1_024) for i in range(2_000)})
            await store.save()
        valkey.kill()
        # Microseconds per key; between keys it answers.
        valkey.options |= {"key-load-delay": 20_000, "loading-process-events-interval-bytes": 1_024}
        await valkey.start()

        async def load_faster_when_it_was_noticed() -> None:
            await logged(tmp_path / "server", f"the store at 127.0.0.1:{valkey.port} is loading its data")
            async with valkey.client() as store:
                await store.config_set("key-load-delay", 0)

        noticing = asyncio.create_task(load_faster_when_it_was_noticed())
        async with serving(tmp_path / "server", valkey.url) as (server, channel):
            await noticing
            await register(channel)
            assert "keeps no append-only file" in server.log


async def test_keys_of_others_are_warned_of(tmp_path: Path, valkey: Valkey) -> None:
    async with valkey.client() as store, valkey.client(db=2) as configuration:
        await store.set("session:their-secret", "1")
        await configuration.set("{7}:config:not-theirs", "1")
        async with serving(tmp_path / "server", valkey.url) as (server, channel):
            await register(channel)
            assert "the store has keys that are not this server's (database 0)" in server.log
            assert "their-secret" not in server.log
        await store.delete("session:their-secret")
    async with serving(tmp_path / "second", valkey.url) as (server, _):
        assert "store_shared" not in server.log


async def test_full_store_is_served_from_the_start(tmp_path: Path, system: System) -> None:
    async with system.valkey.client() as store:
        await store.config_set("maxmemory", 1)
    async with serving(tmp_path / "second", system.valkey.url) as (_, channel):
        project = system.project.on(channel)
        assert len((await project.list()).tasks) == 0
        refused = await refused_by_outage(project.subscribe(task_to(system.target, "/refused")))
        assert "memory is full" in refused.text


@pytest.mark.parametrize(
    "server",
    [
        {},  # hidden by a managed store
        {"redis_version": "7.0.0"},
        {"redis_version": "8.2.1"},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "7.2.4"},
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"},
    ],
)
def test_versions_that_are_new_enough(server: dict[str, str]) -> None:
    check_version(server)


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ({"redis_version": "6.2.19"}, "Redis 6.2.19"),
        ({"redis_version": "3.0.504"}, "Redis 3.0.504"),
        ({"redis_version": "7.2.4", "valkey_version": "7.0.1"}, "Valkey 7.0.1"),
    ],
)
def test_versions_that_are_too_old(server: dict[str, str], name: str) -> None:
    with pytest.raises(UnfitStore, match=rf"the store is {name}; .*Valkey 7\.2 or newer, or Redis 7\.0"):
        check_version(server)
