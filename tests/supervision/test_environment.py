"""What the processes of a server have in their environment: no key, token or password."""

import os
import signal
from pathlib import Path

import pytest

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from tests.supervision.processes import proc, serving

pytestmark = pytest.mark.timeout(240)

CANARY = "canary-in-the-environment-0123456789"
KEY = Keyring((EncryptionKey("canary", bytes(range(32))),)).reveal()
SECRETS = {
    "TASKS_ADMIN_TOKEN": CANARY,
    "TASKS_SERVICE__CRYPTO__KEY": KEY,
    "TASKS_EGRESS_PROXY": f"http://user:{CANARY}@127.0.0.1:9",
    "tasks_admin_port": "0",
    "KUUERI_TOKEN": CANARY,
    "KUUERI_ADMIN_TOKEN": CANARY,
}
#: Of somebody else; the store has no use for it.
FOREIGN = {"DATABASE_PASSWORD": f"{CANARY}-of-others"}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_no_child_has_secrets_in_its_environment(tmp_path: Path, workers: str) -> None:
    async with serving(tmp_path, "--workers", workers, env=SECRETS | FOREIGN) as served:
        await served.ready()
        if served.workers():
            os.kill(served.workers()[0], signal.SIGKILL)
            await served.logged("worker process \\d+ serves", count=3)
        assert CANARY.encode() in proc(served.process.pid, "environ"), "what is looked for can be found"
        family = served.family()
        assert served.store_process() in family
        assert len(family) == (1 if workers == "1" else 3)
        for pid in family:
            environment = dict(
                entry.decode().split("=", 1) for entry in proc(pid, "environ").split(b"\0") if b"=" in entry
            )
            assert environment, "it can be read"
            assert not environment.keys() & SECRETS.keys()
            assert not [name for name, value in environment.items() if KEY in value or value == CANARY]
            command = proc(pid, "cmdline")
            assert CANARY.encode() not in command
            assert KEY.encode() not in command
        assert CANARY.encode() not in proc(served.store_process(), "environ")
        await served.stop()
