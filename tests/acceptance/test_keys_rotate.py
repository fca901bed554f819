"""`kuueri keys`: a new key comes, takes over beside servers that live, and the old one goes."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from redis import Redis

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.store.vault import Vault
from tests.acceptance.caller import after, connected, post, register
from tests.acceptance.command import Finished, run
from tests.acceptance.served import LOOPBACK, Server, command, environment
from tests.acceptance.targets import Target
from tests.outages.valkeys import Valkey, running

HOUR_MS = 3_600_000
OLD, NEW = EncryptionKey("old", b"o" * 32), EncryptionKey("new", b"n" * 32)
ONLY_OLD, OLD_FIRST, NEW_FIRST, ONLY_NEW = (
    {"TASKS_SERVICE__CRYPTO__KEY": Keyring(keys).reveal()}
    for keys in ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))
)


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with running(tmp_path / "store") as valkey:
        yield valkey


def server(directory: Path, valkey: Valkey, env: Mapping[str, str]) -> Server:
    more = {"TASKS_WORKERS": "1", "TASKS_SERVICE__QUEUE__LIMIT": "100000"}
    return Server(directory, *LOOPBACK, "--redis-url", valkey.url, env={**more, **env})


async def keys(directory: Path, valkey: Valkey, env: Mapping[str, str], *arguments: str) -> Finished:
    return await run("kuueri", "keys", *arguments, "--redis-url", valkey.url, cwd=directory, env=env)


def stale(valkey: Valkey) -> int:
    """Return how many requests are not sealed under the new key."""
    head = Vault(Keyring((NEW,))).newest_head
    with Redis(port=valkey.port, db=2) as store:
        return sum(not store.hget(key, "request").startswith(head) for key in store.scan_iter(count=1_000))


async def test_a_new_key_takes_over_beside_a_server_that_lives(
    tmp_path: Path, valkey: Valkey, target: Target
) -> None:
    with server(tmp_path, valkey, ONLY_OLD) as first:
        async with connected(first.address) as channel:
            project = await register(channel)
            for i in range(5):
                await project.subscribe(post(target.url("/later"), task_id=f"a{i}", schedule=after(HOUR_MS)))

        refused = await keys(tmp_path, valkey, NEW_FIRST, "rotate")
        assert refused.exit_code == 1
        assert "seals with 'old', and does not have 'new'; restart it" in refused.stderr
        listed = (await keys(tmp_path, valkey, NEW_FIRST, "list", "--json")).ok().documents
        assert [(d["key_id"], d["newest"], d["in_use"], len(d["lacked_by"])) for d in listed] == [
            ("new", True, False, 1),
            ("old", False, True, 0),
        ]
    with server(tmp_path, valkey, OLD_FIRST):
        refused = await keys(tmp_path, valkey, NEW_FIRST, "rotate")
        assert "seals with 'old'; restart it with 'new' as its first key" in refused.stderr
    assert stale(valkey) == 5

    with server(tmp_path, valkey, NEW_FIRST) as second:
        async with connected(second.address) as channel:
            project = project.on(channel)
            rotating = asyncio.create_task(keys(tmp_path, valkey, NEW_FIRST, "rotate", "--batch", "1"))
            accepted = 0
            while not rotating.done():
                await project.subscribe(
                    post(target.url("/b"), task_id=f"b{accepted}", schedule=after(HOUR_MS))
                )
                accepted += 1
            done = (await rotating).ok()
            assert done.stdout.startswith("6 records sealed anew")
            assert "no record is under old any more: remove it from the keys of every server" in done.stdout
            assert stale(valkey) == 0

    with server(tmp_path, valkey, ONLY_NEW) as third:
        async with connected(third.address) as channel:
            project = project.on(channel)
            for task_id in ("a0", f"b{accepted - 1}"):
                await project.run(task_id)
                await project.ended(task_id)
            assert [call.headers["webhook-signature"][:3] for call in target.at("/later")] == ["v1,"]
        table = (await keys(tmp_path, valkey, ONLY_NEW, "list")).ok().stdout.splitlines()
        assert [line.split() for line in table[1:]] == [["new", "newest", "yes", "-"]]


async def test_a_rotation_that_is_killed_is_taken_up(tmp_path: Path, valkey: Valkey, target: Target) -> None:
    tasks = 2_000
    with server(tmp_path, valkey, ONLY_OLD) as served:
        async with connected(served.address) as channel:
            project = await register(channel)
            later = post(target.url("/later"), schedule=after(HOUR_MS))
            await project.batch([later] * (tasks // 2))
            await project.batch([later] * (tasks // 2))
    rotating = subprocess.Popen(  # noqa: ASYNC220 - it does not block
        [command("kuueri"), "keys", "rotate", "--batch", "1", "--redis-url", valkey.url],
        cwd=tmp_path,
        env=environment(tmp_path, NEW_FIRST),
        stdout=subprocess.DEVNULL,
    )
    while stale(valkey) == tasks:
        assert rotating.poll() is None
    os.kill(rotating.pid, signal.SIGKILL)
    rotating.wait()
    left = stale(valkey)
    assert 0 < left < tasks

    done = (await keys(tmp_path, valkey, NEW_FIRST, "rotate", "--json")).ok().documents[-1]

    assert done == {"done": True, "resealed": left, "unreadable": 0, "retired": ["old"]}
    assert stale(valkey) == 0


async def test_the_embedded_store_gets_a_new_key(tmp_path: Path, target: Target) -> None:
    there = ("--data-dir", str(tmp_path / "data"))
    early = await run("kuueri", "keys", "generate", "--add", *there, cwd=tmp_path)
    assert "no server was started on that directory yet" in early.stderr
    served = Server(tmp_path, *LOOPBACK).start()
    file = served.data_dir / "encryption.keys"
    async with connected(served.address) as channel:
        project = await register(channel)
        await project.subscribe(post(target.url("/a"), task_id="a", schedule=after(HOUR_MS)))

    added = (await run("kuueri", "keys", "generate", "--add", *there, cwd=tmp_path)).ok()
    newest, old = Keyring.parse(file.read_text()).keys
    assert f"added key {newest.key_id} to {file}; restart the server" in added.stdout
    assert newest.reveal() not in added.stdout
    served.stop()
    stopped = await run("kuueri", "keys", "rotate", *there, cwd=tmp_path)
    assert stopped.exit_code == 3
    served.start()
    done = (await run("kuueri", "keys", "rotate", *there, cwd=tmp_path)).ok()
    assert f"no record is under {old.key_id} any more" in done.stdout

    file.write_text(newest.reveal())
    served.stop()
    served.start()
    async with connected(served.address) as channel:
        assert (await project.on(channel).get("a")).http_target.url == target.url("/a")
    served.stop()


async def test_a_key_that_is_generated_is_taken(tmp_path: Path) -> None:
    made = (await run("kuueri", "keys", "generate", cwd=tmp_path)).ok().stdout
    assert Keyring.parse(made).newest.reveal() == made.strip()
    configured = {"TASKS_SERVICE__CRYPTO__KEY": made.strip()}
    refused = await run("kuueri", "keys", "generate", "--add", cwd=tmp_path, env=configured)
    assert "the keys are in SERVICE.CRYPTO.KEY" in refused.stderr


async def test_an_empty_store_has_nothing_to_rotate(tmp_path: Path, valkey: Valkey) -> None:
    refused = await keys(tmp_path, valkey, ONLY_NEW, "rotate")
    assert (refused.exit_code, json.dumps(refused.stdout)) == (1, '""')
    assert "the store is empty: no server has used it yet" in refused.stderr


async def test_a_rotation_without_a_key_that_is_in_use_is_refused(tmp_path: Path, valkey: Valkey) -> None:
    with server(tmp_path, valkey, ONLY_OLD):
        refused = await keys(tmp_path, valkey, ONLY_NEW, "rotate")
        listed = (await keys(tmp_path, valkey, ONLY_NEW, "list")).ok()
    assert "sealed under the key 'old', and this server has only new; put that key back" in refused.stderr
    assert listed.stdout.split()[-4:] == ["old", "missing", "yes", "-"]
