"""What keeps a server from starting ends it at once, with the reason."""

import json
import socket
from pathlib import Path

import pytest

from tests.keys import KEYRING
from tests.supervision.processes import all_gone, proc, serving

pytestmark = pytest.mark.timeout(240)


async def test_a_port_that_something_listens_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with serving(tmp_path, "--workers", "2", "--port", str(port)) as served:
            assert await served.ended() == 1
            assert f"error: port {port} is in use on 127.0.0.1" in served.story


async def test_a_port_of_another_server_is_not_shared_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as first:
        await first.ready()
        port = first.address.rpartition(":")[2]
        for workers in ("2", "1"):
            async with serving(
                tmp_path, "--workers", workers, "--port", port, name=f"of-{workers}"
            ) as second:
                assert await second.ended() == 1, second.story
                assert f"error: port {port} is in use on 127.0.0.1, maybe by another kuueri" in second.log[-1]
                assert len(second.log) == 1, second.story
        await first.stop()


async def test_what_no_worker_can_start_with(tmp_path: Path, store: str) -> None:
    async with serving(tmp_path, "--workers", "1", "--redis-url", store) as first:
        await first.ready()
        await first.stop()
    env = {"TASKS_DATABASE__PARTITIONS": "7"}
    async with serving(tmp_path, "--workers", "3", "--redis-url", store, env=env) as served:
        family = served.family()
        assert await served.ended() == 1, served.story
        errors = [line for line in served.log if line.startswith("error: ")]
        assert len(errors) == 1
        assert "initialised with 256 partitions" in errors[0]
        assert not any("Traceback" in line for line in served.log), served.story
        await all_gone(family)


async def test_a_data_directory_of_another_server(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as first:
        await first.ready()
        async with serving(tmp_path, "--workers", "2") as second:
            assert await second.ended() == 1
            assert f"in use by process {first.process.pid}" in second.story
        await first.stop()


async def test_secrets_are_neither_in_arguments_nor_in_the_environment(tmp_path: Path, store: str) -> None:
    """Beyond where the operator has put them: here, into a file."""
    config = tmp_path / "config.json"
    database, key = {"REDIS": {"URL": store}}, KEYRING.reveal()
    config.write_text(json.dumps({"DATABASE": database, "SERVICE": {"CRYPTO": {"KEY": key}}}))
    async with serving(tmp_path, "--workers", "2", "--config", str(config)) as served:
        await served.ready()
        for pid in served.workers():
            for name in ("cmdline", "environ"):
                assert store.encode() not in proc(pid, name)
                assert key.partition(":")[2].encode() not in proc(pid, name)
        await served.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_admin_port_that_something_listens_on(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with serving(tmp_path, "--workers", workers, "--admin-port", str(port)) as served:
            assert await served.ended() == 1
            told = f"error: the admin endpoint cannot listen on 127.0.0.1:{port}: Address already in use; "
            assert served.log[-1].startswith(told), served.story
            assert "--admin-port" in served.log[-1]
