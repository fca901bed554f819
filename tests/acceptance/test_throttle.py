"""`MODULE.THROTTLER` as the operator sets it, and as a user of the command line meets it."""

from pathlib import Path

from tests.acceptance.command import run
from tests.acceptance.served import Server

ENVIRONMENT = {"TASKS_MODULE__THROTTLER__LIMIT": "2", "TASKS_MODULE__THROTTLER__TTL": "3600"}


async def test_a_project_that_has_made_its_calls_is_told_when_to_come_back(tmp_path: Path) -> None:
    with Server(tmp_path, "--workers", "1", env=ENVIRONMENT) as server:
        address = ("--address", server.address)
        (await run("kuueri", "project", "register", "--email", "a@b.c", *address, cwd=tmp_path)).ok()
        for _ in range(2):
            (await run("kuueri", "list", *address, cwd=tmp_path)).ok()
        refused = await run("kuueri", "list", *address, cwd=tmp_path)
        assert refused.exit_code == 1
        assert "has made its 2 calls in 3600 s; try again a little later" in refused.stderr
        assert "hint: try again in" in refused.stderr
