"""The embedded store, with the real server and real processes that are killed."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import uvloop
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from kuueri_grpc.store import embedded, valkey_command
from kuueri_grpc.store.embedded import EmbeddedValkey, ValkeyStartError
from tests.store.embedded_tools import (
    PATIENCE_S,
    assert_gone,
    end_of,
    holder,
    log_of,
    mode,
    names_in,
    orphan,
    read,
    ready,
    write,
)

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a parent's death")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


# --- start, stop, restart ---------------------------------------------------------------------


async def test_data_survives_a_restart(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as store:
        await write(store, "key", "value")
    async with EmbeddedValkey(data_dir) as store:
        assert await read(store, "key") == b"value"


async def test_one_object_can_be_started_again(data_dir: Path) -> None:
    store = EmbeddedValkey(data_dir)
    async with store:
        await write(store, "key", "value")
    async with store:
        assert await read(store, "key") == b"value"


async def test_starting_twice_is_a_mistake(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as store:
        with pytest.raises(RuntimeError, match="started already"):
            await store.start()


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_it_syncs_when_it_is_told_to(data_dir: Path, fsync: Literal["always", "everysec"]) -> None:
    async with (
        EmbeddedValkey(data_dir, fsync=fsync) as store,
        Redis.from_url(store.url, decode_responses=True) as client,
    ):
        assert await client.config_get("appendfsync") == {"appendfsync": fsync}


async def test_it_is_configured_to_keep_everything(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as store, Redis.from_url(store.url, decode_responses=True) as client:
        settings = await client.config_get(
            *("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save"),
            *("maxmemory-policy", "maxmemory", "port", "protected-mode"),
        )
    assert settings == {
        "appendonly": "yes",
        "no-appendfsync-on-rewrite": "no",
        "appendfsync": "always",
        "save": "3600 1 300 100 60 10000",
        "maxmemory-policy": "noeviction",
        "maxmemory": "0",
        "port": "0",
        "protected-mode": "yes",
    }


def known_tunables(maps: str) -> set[str]:
    """Return what the C library in these mappings lets one set; it passes over other names in silence."""
    loader = re.search(r"/\S+/ld-linux\S+", maps)
    if loader is None:
        pytest.skip("the C library is not glibc")
    listed = subprocess.run([loader[0], "--list-tunables"], capture_output=True, text=True, check=True)
    return {line.split(":")[0] for line in listed.stdout.splitlines()}


@needs_linux
async def test_its_allocator_is_tuned(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    async with EmbeddedValkey(data_dir) as store:
        process = Path(f"/proc/{store.pid}")
        # The C library splits the setting where it stands.
        environment = (process / "environ").read_bytes().replace(b"\0", b":").decode()
        maps = (process / "maps").read_text()
    assert f"GLIBC_TUNABLES={valkey_command._GLIBC_TUNABLES}:" in environment
    assert {setting.split("=")[0] for setting in valkey_command._GLIBC_TUNABLES.split(":")} <= known_tunables(
        maps
    )


async def test_no_process_and_no_socket_is_left(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as store:
        assert "valkey.sock" in names_in(data_dir)
        pid = store.pid
    assert_gone(pid)
    assert names_in(data_dir) == {"appendonlydir", "kuueri.lock", "valkey.lock", "valkey.log"}
    with pytest.raises(RedisConnectionError):
        await read(store, "key")


async def test_no_descriptor_is_left(data_dir: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    async def descriptors_after_a_run() -> int:
        async with EmbeddedValkey(data_dir):
            pass
        return descriptors()

    # The event loop keeps some of its own from the first child on.
    before = await descriptors_after_a_run()
    assert await descriptors_after_a_run() == before


async def test_the_data_is_this_users_alone(data_dir: Path) -> None:
    def modes() -> dict[str, int]:
        return {path.name: mode(path) for path in (data_dir, *data_dir.rglob("*"))}

    async with EmbeddedValkey(data_dir):
        found = modes()
    assert {"data", "valkey.sock", "valkey.log", "appendonly.aof.1.incr.aof"} <= found.keys()
    assert [name for name in found if found[name] & 0o077] == []


async def test_a_data_directory_may_have_any_name(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path / "a ?#%25 \"b'") as store:
        await write(store, "key", "value")
        assert await read(store, "key") == b"value"


async def test_closing_when_not_started_does_nothing(data_dir: Path) -> None:
    await EmbeddedValkey(data_dir).aclose()
    assert names_in(data_dir.parent) == set()


def test_it_runs_on_uvloop(data_dir: Path) -> None:
    async def main() -> int:
        async with EmbeddedValkey(data_dir) as store:
            await write(store, "key", "value")
            return store.pid

    assert_gone(uvloop.run(main()))
    assert "Received SIGTERM" in log_of(data_dir)


# --- the process that holds it dies -----------------------------------------------------------


async def test_kill_9_of_the_process_and_a_start_at_once_keep_the_data(data_dir: Path) -> None:
    async with holder(data_dir) as (process, _):
        process.kill()
        await process.wait()
        async with EmbeddedValkey(data_dir) as store:
            assert await read(store, "written") == b"1"


@needs_linux
async def test_kill_9_of_the_process_ends_the_server_in_order(data_dir: Path) -> None:
    async with holder(data_dir) as (process, server_pid):
        server_end = end_of(server_pid)
        process.kill()
        await process.wait()
        await server_end
    assert "Received SIGTERM" in log_of(data_dir)
    assert "Calling fsync() on the AOF file" in log_of(data_dir)


async def test_ctrl_c_reaches_the_process_but_not_the_server(data_dir: Path) -> None:
    async with holder(data_dir) as (process, server_pid):
        assert os.getpgid(server_pid) != os.getpgid(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert await process.wait() == 0
    assert "Received SIGINT" not in log_of(data_dir)
    async with EmbeddedValkey(data_dir) as store:
        assert await read(store, "interrupted") == b"1"


@pytest.mark.parametrize("when", ["starting", "ready"])
async def test_an_orphaned_server_is_stopped_and_its_data_kept(data_dir: Path, when: str) -> None:
    async with orphan(data_dir) as server:
        if when == "ready":
            await ready(data_dir)
        async with EmbeddedValkey(data_dir) as store:
            assert await asyncio.to_thread(server.wait, PATIENCE_S) == 0
            assert await read(store, "key") == b"value"


async def test_an_orphaned_server_that_does_not_go_is_named(data_dir: Path) -> None:
    async with holder(data_dir) as (process, server_pid):
        os.kill(server_pid, signal.SIGSTOP)
        try:
            process.kill()
            await process.wait()
            with pytest.raises(
                ValkeyStartError,
                match=rf"still written to by valkey-server, process {server_pid}, .*end that .*--data-dir",
            ):
                await EmbeddedValkey(data_dir, orphan_timeout_ms=50).start()
        finally:
            os.kill(server_pid, signal.SIGCONT)
        async with EmbeddedValkey(data_dir) as store:
            assert await read(store, "written") == b"1"


# --- the server dies --------------------------------------------------------------------------


async def test_the_death_of_the_server_is_noticed_and_explained(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as store, asyncio.timeout(PATIENCE_S):
        await write(store, "key", "value")
        os.kill(store.pid, signal.SIGKILL)
        end = await store.wait()
    assert end.status == -signal.SIGKILL
    assert re.match(
        rf"valkey-server \(process {end.pid}\) was ended by signal 9 \(Killed\); .*valkey.log", str(end)
    )
    assert "Ready to accept connections" in str(end)
    async with EmbeddedValkey(data_dir) as store:
        assert await read(store, "key") == b"value"


async def test_a_server_that_does_not_stop_is_killed(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir, stop_timeout_ms=50) as store:
        os.kill(store.pid, signal.SIGSTOP)
        await store.aclose()
        assert (await store.wait()).status == -signal.SIGKILL
    assert_gone(store.pid)
    assert not {"valkey.sock", "valkey.pid"} & names_in(data_dir)


async def test_waiting_for_the_end_of_nothing_is_a_mistake(data_dir: Path) -> None:
    with pytest.raises(RuntimeError, match="not started"):
        await EmbeddedValkey(data_dir).wait()


# --- what keeps it from starting --------------------------------------------------------------


async def test_a_server_that_says_nothing_is_ended(data_dir: Path) -> None:
    store = EmbeddedValkey(data_dir, silence_timeout_ms=0)
    with pytest.raises(
        ValkeyStartError, match=f"has said nothing for 0 s; the last lines of {data_dir}/valkey.log"
    ):
        await store.start()
    assert_gone(store.pid)


async def test_a_start_that_is_cancelled_leaves_nothing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def never_answers(_client: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    store = EmbeddedValkey(data_dir)
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_said", never_answers)
        starting = asyncio.create_task(store.start())
        await asked.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert_gone(store.pid)
    async with store:
        await write(store, "key", "value")


async def test_no_server_for_this_system_says_so(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_DISTRIBUTION", "kuueri-tasks")
    with pytest.raises(ValkeyStartError, match=r"no valkey-server for this system.*--redis-url"):
        await EmbeddedValkey(data_dir).start()


async def test_a_server_that_cannot_be_executed_says_so(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "server_binary", lambda: tmp_path / "missing")
    with pytest.raises(ValkeyStartError, match=r"cannot execute .*missing: No such file or directory"):
        await EmbeddedValkey(data_dir).start()


# --- the fixture that other tests use ---------------------------------------------------------


@pytest.mark.one_server
@pytest.mark.parametrize("turn", [1, 2])
async def test_every_test_gets_an_empty_store(store_url: str, turn: int) -> None:
    for database in range(4):
        async with Redis.from_url(store_url, db=database) as client:
            assert await client.dbsize() == 0
            await client.set("turn", turn)


@pytest.mark.one_server
def test_a_sync_test_can_use_the_store_too(store_url: str) -> None:
    with SyncRedis.from_url(store_url) as client:
        assert client.ping()
