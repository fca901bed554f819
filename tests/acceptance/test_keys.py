"""The keys of a server: made, kept, lost, wrong."""

import json
import stat
import subprocess
from pathlib import Path

import pytest
from redis import Redis

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from tests.acceptance.caller import connected, post, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server, command, environment
from tests.acceptance.targets import Target
from tests.example import PASSWORD, filled_example
from tests.keys import KEYRING
from tests.outages.valkeys import Valkey, running

KEY_VARIABLE = "TASKS_SERVICE__CRYPTO__KEY"


def refused_start(directory: Path, *options: str, env: dict[str, str] | None = None) -> str:
    """Start a server, which must give up before it serves; return what it says."""
    ended = subprocess.run(
        [command("kuueri"), "serve", "--port", "0", *options],
        cwd=directory,
        env=environment(directory, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr


async def test_the_embedded_store_makes_a_key_and_keeps_it(tmp_path: Path, target: Target) -> None:
    server = Server(tmp_path, *LOOPBACK, "--workers", "2").start()
    file = server.data_dir / "encryption.keys"
    made = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(Keyring.parse(made).keys) == 1
    async with connected(server.address) as channel:
        project = await register(channel)
        await project.subscribe(post(target.url("/a"), task_id="a"))
        await project.ended("a")
    server.stop()

    server.start()

    assert file.read_text() == made
    async with connected(server.address) as channel:
        read = await project.on(channel).get("a")
    assert read.http_target.url == target.url("/a")
    server.stop()
    assert not list(server.data_dir.glob("encryption.keys.*"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_lost_key_is_met_before_anything_is_served(tmp_path: Path, workers: str) -> None:
    options = ("--workers", workers)
    server = Server(tmp_path, *options).start()
    server.stop()
    file = server.data_dir / "encryption.keys"
    lost = Keyring.parse(file.read_text()).newest
    backup = file.rename(tmp_path / "backup")

    said = refused_start(tmp_path, *options, "--data-dir", str(server.data_dir))

    assert f"sealed under the key {lost.key_id!r}" in said
    assert "encryption.keys in its data directory" in said
    backup.rename(file)
    server.start()
    server.stop()


def test_a_wrong_key_is_met_before_anything_is_served(tmp_path: Path) -> None:
    server = Server(tmp_path).start()
    server.stop()
    file = server.data_dir / "encryption.keys"
    key_id = Keyring.parse(file.read_text()).newest.key_id
    file.write_text(EncryptionKey(key_id, bytes(32)).reveal())

    said = refused_start(tmp_path, "--data-dir", str(server.data_dir))

    assert f"another key of the id {key_id!r}" in said


def test_a_key_file_with_something_else_in_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/encryption.keys").write_text("hidden\n")

    said = refused_start(tmp_path, "--data-dir", str(tmp_path / "data"))

    assert f"the key file {tmp_path}/data/encryption.keys cannot be used: key 1 " in said
    assert "hidden" not in said


async def test_an_external_store_needs_a_key(tmp_path: Path) -> None:
    async with running(tmp_path / "store") as valkey:
        said = refused_start(tmp_path, "--redis-url", valkey.url)
        assert "Make one with `kuueri keys generate`" in said
        assert KEY_VARIABLE in said
        async with valkey.client() as store:
            assert await store.dbsize() == 0

        for key, why in (("hidden", "key 1 "), ("a:hidden!", "key 1 (a) is not base64")):
            ended = subprocess.run(  # noqa: ASYNC221 - nothing else happens meanwhile
                [command("kuueri"), "serve", "--port", "0", "--redis-url", valkey.url],
                env=environment(tmp_path, {KEY_VARIABLE: key}),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert ended.returncode == 2
            assert f"SERVICE.CRYPTO.KEY in the environment ({KEY_VARIABLE}): {why}" in ended.stderr
            assert "hidden" not in ended.stderr


async def test_two_servers_of_different_keys_do_not_share_a_store(tmp_path: Path) -> None:
    async with running(tmp_path / "store") as valkey:
        with Server(tmp_path, "--redis-url", valkey.url):
            said = refused_start(
                tmp_path,
                "--redis-url",
                valkey.url,
                env={KEY_VARIABLE: EncryptionKey("k2", bytes(32)).reveal()},
            )
    assert "sealed under the key 'tests1', and this server has only k2" in said


async def test_a_new_key_waits_until_every_server_has_it(tmp_path: Path) -> None:
    """A server that is given it too early does not take the others down."""
    newest = KEYRING.behind(EncryptionKey("k2", bytes(32)))
    async with running(tmp_path / "store") as valkey:
        with Server(tmp_path, "--redis-url", valkey.url) as server:
            said = refused_start(tmp_path, "--redis-url", valkey.url, env={KEY_VARIABLE: newest.reveal()})
            assert "serves the store and does not have the key 'k2'" in said
            async with connected(server.address) as channel:
                await register(channel)
        with Server(tmp_path, "--redis-url", valkey.url, env={KEY_VARIABLE: newest.reveal()}):
            pass


async def test_the_example_starts_when_its_blanks_are_filled(tmp_path: Path, target: Target) -> None:
    """With the store where the example has it but for its port, and ports that are free."""
    valkey = Valkey(tmp_path / "store", requirepass=PASSWORD)
    await valkey.start()
    example = filled_example(tmp_path, ADMIN_PORT=0)
    document = json.loads(example.read_text())
    document["DATABASE"]["REDIS"]["PORT"] = valkey.port
    example.write_text(json.dumps(document))
    try:
        with Server(tmp_path, "--config", str(example)) as server:
            async with connected(server.address) as channel:
                await register(channel)
            with Redis(port=valkey.port, password=PASSWORD) as store:
                assert store.hkeys("kuueri:store") != []
    finally:
        valkey.stop()
