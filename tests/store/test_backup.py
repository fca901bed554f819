"""Copies of an embedded store's files, and what is said of damaged ones."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kuueri_grpc.store import backup
from kuueri_grpc.store.backup import BackupError, Damage
from kuueri_grpc.store.data_dir import ValkeyStartError
from kuueri_grpc.store.embedded import EmbeddedValkey
from tests.store.embedded_tools import names_in, read, write


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def last_file(data_dir: Path) -> Path:
    (file,) = (data_dir / backup.FILES).glob("*.incr.aof")
    return file


async def filled(data_dir: Path) -> None:
    async with EmbeddedValkey(data_dir) as store:
        for n in range(10):
            await write(store, f"key-{n}", f"value-{n}")


async def test_a_copy_has_what_was_acknowledged_whatever_is_written_and_rewritten(
    data_dir: Path, tmp_path: Path
) -> None:
    copies, acknowledged, stopped = [], [0], asyncio.Event()

    async def keep_writing(client: Redis) -> None:
        while not stopped.is_set():
            await client.set("count", acknowledged[0] + 1)
            acknowledged[0] += 1
            await asyncio.sleep(0)

    async def keep_rewriting(client: Redis) -> None:
        while not stopped.is_set():
            with contextlib.suppress(ResponseError):  # one is under way
                await client.bgrewriteaof()
            await asyncio.sleep(0.02)  # nobody signals that it has ended

    async with EmbeddedValkey(data_dir) as store, Redis.from_url(store.url) as client:
        others = [asyncio.create_task(keep_writing(client)), asyncio.create_task(keep_rewriting(client))]
        while acknowledged[0] == 0:
            await client.ping()
        for n in range(5):
            before, copy = acknowledged[0], tmp_path / f"copy-{n}"
            await asyncio.to_thread(backup.back_up, data_dir, copy, with_keys=False)
            copies.append((copy, before))
        stopped.set()  # not cancelled: on Python 3.11 the client can swallow that
        await asyncio.gather(*others)
        last = acknowledged[0]
    assert not [name for name in names_in(data_dir) if name.startswith("backup-")]

    for copy, before in copies:
        async with EmbeddedValkey(copy) as store:
            assert before <= int(await read(store, "count") or 0) <= last + 1


async def test_a_backup_is_put_back_where_no_store_is(data_dir: Path, tmp_path: Path) -> None:
    await filled(data_dir)
    backup.back_up(data_dir, tmp_path / "copy", with_keys=False)
    other = tmp_path / "other"
    other.mkdir()
    backup.put_back(tmp_path / "copy", other)
    async with EmbeddedValkey(other) as store:
        assert await read(store, "key-9") == b"value-9"
    with pytest.raises(BackupError, match="has a store; move it away first"):
        backup.put_back(tmp_path / "copy", other)


def test_keys_are_copied_only_when_asked_for(data_dir: Path, tmp_path: Path) -> None:
    files = data_dir / backup.FILES
    files.mkdir(parents=True)
    (files / "appendonly.aof.manifest").write_text("file a.incr.aof seq 1 type i\n")
    (files / "a.incr.aof").write_bytes(b"")
    (data_dir / "encryption.keys").write_text("secret")
    backup.back_up(data_dir, tmp_path / "without", with_keys=False)
    backup.back_up(data_dir, tmp_path / "with", with_keys=True)
    assert not (tmp_path / "without" / "encryption.keys").exists()
    copied = tmp_path / "with" / "encryption.keys"
    assert copied.read_text() == "secret"
    assert copied.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("with_store", [False, True])
def test_a_backup_needs_a_store_and_a_new_directory(data_dir: Path, tmp_path: Path, with_store: bool) -> None:
    if with_store:
        files = data_dir / backup.FILES
        files.mkdir(parents=True)
        (files / "appendonly.aof.manifest").write_text("")
    wanted = "exists; name a directory that does not" if with_store else "there is no store in"
    with pytest.raises(BackupError, match=wanted):
        backup.back_up(data_dir, tmp_path, with_keys=False)


async def test_files_in_order_have_no_damage(data_dir: Path) -> None:
    await filled(data_dir)
    assert backup.check(data_dir) == []
    assert backup.repair(data_dir) == []


async def test_a_torn_end_is_found_and_cut_off(data_dir: Path) -> None:
    await filled(data_dir)
    file = last_file(data_dir)
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    (damage,) = backup.check(data_dir)
    assert (damage.file, damage.size_bytes, damage.can_be_cut) == (file, len(whole) - 3, True)
    assert whole[damage.sound_bytes :].startswith(b"*3\r\n$3\r\nSET")
    assert file.read_bytes() == whole[:-3], "check changes nothing"

    assert backup.repair(data_dir) == [damage]
    assert backup.check(data_dir) == []
    async with EmbeddedValkey(data_dir) as store:
        assert await read(store, "key-8") == b"value-8"
        assert await read(store, "key-9") is None


async def test_what_later_changes_build_on_is_not_cut_off(data_dir: Path) -> None:
    await filled(data_dir)
    (base,) = (data_dir / backup.FILES).glob("*.base.rdb")
    torn = base.read_bytes()[:-8]
    base.write_bytes(torn)
    assert backup.check(data_dir) == [Damage(base, len(torn), 0, can_be_cut=False)]
    with pytest.raises(BackupError, match="restore a backup"):
        backup.repair(data_dir)
    assert base.read_bytes() == torn


async def test_a_missing_file_is_named(data_dir: Path) -> None:
    await filled(data_dir)
    last_file(data_dir).unlink()
    with pytest.raises(BackupError, match=r"incr\.aof is missing: restore a backup"):
        backup.check(data_dir)


async def test_a_store_in_use_is_not_checked_and_not_put_back_over(data_dir: Path, tmp_path: Path) -> None:
    await filled(data_dir)
    backup.back_up(data_dir, tmp_path / "copy", with_keys=False)
    async with EmbeddedValkey(data_dir):
        with pytest.raises(ValkeyStartError, match="is in use by process"):
            backup.check(data_dir)
    shutil.rmtree(data_dir / backup.FILES)
    async with EmbeddedValkey(data_dir):
        shutil.rmtree(data_dir / backup.FILES)
        with pytest.raises(ValkeyStartError, match="is in use by process"):
            backup.put_back(tmp_path / "copy", data_dir)
