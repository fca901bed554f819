"""A live store is backed up and restored elsewhere by the steps of docs/backup.md; a server goes on."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from redis.asyncio import Redis

from tests.acceptance.caller import Project, after, connected, post, register, state_name, types
from tests.acceptance.command import run
from tests.acceptance.served import Server
from tests.acceptance.targets import Target
from tests.outages.calls import ONE_ATTEMPT
from tests.outages.servers import serving
from tests.outages.valkeys import Valkey
from tests.service.statuses import refusal

HOUR_MS = 3_600_000
WAITING = 10


async def until(client: Redis, done: Callable[[dict[str, Any]], bool]) -> None:
    """Return when what INFO says of persistence is so: nobody tells when a snapshot is written."""
    while not done(await client.info("persistence")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def snapshot(valkey: Valkey) -> Path:
    """Step 1: have a snapshot written, while everything goes on."""
    async with valkey.client() as client:
        await client.config_set("dbfilename", "backup.rdb")
        await client.bgsave()
        await until(client, lambda info: not info["rdb_bgsave_in_progress"])
        assert (await client.info("persistence"))["rdb_last_bgsave_status"] == "ok"
    return valkey.directory / "backup.rdb"


async def restore(backup: Path, directory: Path) -> Valkey:
    """Steps 2 to 4: start on the snapshot, have an append-only file made of it, forget the epoch."""
    valkey = Valkey(directory, appendonly="no")
    shutil.copy(backup, directory / "dump.rdb")
    await valkey.start()
    async with valkey.client() as client:
        await client.ping()
        await client.config_set("appendonly", "yes")
        await until(client, lambda info: info["aof_enabled"] and not info["aof_rewrite_in_progress"])
        await client.hdel("kuueri:store", "epoch")
    return valkey


async def last_token(project: Project, task_id: str) -> str:
    return [message.resume_token async for message in project.watch(task_id)][-1]


async def waiting_and_ended(project: Project, target: Target) -> tuple[list[str], str]:
    waiting = [
        (await project.subscribe(post(target.url(f"/waiting/{n}"), schedule=after(HOUR_MS)))).task_id
        for n in range(WAITING)
    ]
    ended = (await project.subscribe(post(target.url("/ended")))).task_id
    await project.ended(ended)
    return waiting, ended


async def assert_all_there(project: Project, target: Target, waiting: list[str], ended: str) -> None:
    assert types(await project.timeline(ended)) == ONE_ATTEMPT
    for task_id in waiting:
        assert state_name(await project.get(task_id)) == "SCHEDULED"
        await project.run(task_id)
        await project.ended(task_id)
    assert [len(target.at(f"/waiting/{n}")) for n in range(WAITING)] == [1] * WAITING


async def test_a_snapshot_of_a_live_store_is_restored_elsewhere(
    tmp_path: Path, valkey: Valkey, target: Target
) -> None:
    async with serving(tmp_path / "before", valkey.url) as (_, channel):
        project = await register(channel)
        waiting, ended = await waiting_and_ended(project, target)
        later = (await project.subscribe(post(target.url("/later"), schedule=after(HOUR_MS)))).task_id
        backup = await snapshot(valkey)
        # What happens afterwards is not in it.
        await project.run(later)
        await project.ended(later)
        forgotten = (await project.subscribe(post(target.url("/forgotten")))).task_id
        await project.ended(forgotten)
        token = await last_token(project, later)
    valkey.kill()

    restored = await restore(backup, tmp_path / "restored")
    # Step 5: as before, from its append-only file.
    restored.kill()
    restored.options["appendonly"] = "yes"
    await restored.start()
    try:
        async with serving(tmp_path / "after", restored.url) as (_, channel):
            project = project.on(channel)
            await assert_all_there(project, target, waiting, ended)
            assert (await refusal(project.get(forgotten))).code is grpc.StatusCode.NOT_FOUND
            # Its end is forgotten: it is sent again, and its target can tell.
            assert state_name(await project.get(later)) == "SCHEDULED"
            await project.run(later)
            await project.ended(later)
            first, again = target.at("/later")
            assert first.headers["webhook-id"] == again.headers["webhook-id"]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(project.watch(later, token))
            assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
    finally:
        restored.stop()


@pytest.mark.parametrize("with_keys", [True, False])
async def test_a_live_embedded_store_is_backed_up_and_restored_elsewhere(
    tmp_path: Path, target: Target, with_keys: bool
) -> None:
    options = ("--allow-target", "127.0.0.0/8", "--workers", "1")
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with Server(one, *options) as server:
        async with connected(server.address) as channel:
            project = await register(channel)
            waiting, ended = await waiting_and_ended(project, target)
            data_dir = ("--data-dir", str(server.data_dir))
            keys = ("--with-keys",) if with_keys else ()
            (await run("kuueri", "backup", "--to", "copy", *data_dir, *keys, cwd=tmp_path)).ok()
            token = await last_token(project, ended)
            refused = await run("kuueri", "check", *data_dir, cwd=tmp_path)
            assert (refused.exit_code, "is in use by process" in refused.stderr) == (1, True)

    data_dir = ("--data-dir", str(other / "data"))
    restored = (await run("kuueri", "restore", "--from", "copy", *data_dir, cwd=tmp_path)).ok()
    assert restored.stdout.endswith(": 1 project\n")
    if not with_keys:
        shutil.copy(one / "data" / "encryption.keys", other / "data")
    assert (await run("kuueri", "check", *data_dir, cwd=tmp_path)).ok().stdout.endswith(": no damage\n")
    with Server(other, *options) as server:
        async with connected(server.address) as channel:
            project = project.on(channel)
            await assert_all_there(project, target, waiting, ended)
            with pytest.raises(grpc.aio.AioRpcError) as too_old:
                await anext(project.watch(ended, token))
            assert too_old.value.code() is grpc.StatusCode.OUT_OF_RANGE


async def test_the_commands_are_for_the_embedded_store(tmp_path: Path) -> None:
    environment = {"TASKS_DATABASE__REDIS__URL": "redis://127.0.0.1:1"}
    refused = await run("kuueri", "backup", "--to", "copy", cwd=tmp_path, env=environment)
    assert refused.exit_code == 1
    assert "external store" in refused.stderr
