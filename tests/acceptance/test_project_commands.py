"""`kuueri project ...`: what it does to a project on a real server, and to the credentials that are kept."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.caller import new_email
from tests.acceptance.command import run
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.test_command_line import CommandLine

ADMIN_TOKEN = "an-admin-token-of-this-server-alone"


@pytest.fixture
def kuueri(server: Server, tmp_path: Path) -> CommandLine:
    """The commands of a user who has no project yet."""
    return CommandLine(server, tmp_path)


async def registered(kuueri: CommandLine) -> dict[str, str]:
    """Make a project and return what is kept of it."""
    (made,) = (await kuueri("project", "register", "--email", new_email(), "--json")).ok().documents
    return kept(kuueri)[made["project"]["project_id"]]


def kept(kuueri: CommandLine) -> dict[str, dict[str, str]]:
    document = json.loads((kuueri.home / "credentials.json").read_text())
    return {
        project_id: entry
        for server in document["servers"].values()
        for project_id, entry in server["projects"].items()
    }


async def test_a_rotated_token_takes_the_place_of_the_old_one(kuueri: CommandLine) -> None:
    before = await registered(kuueri)
    (made,) = (await kuueri("project", "rotate-token", "--json")).ok().documents
    ((_, after),) = kept(kuueri).items()

    assert after == {**before, "token": made["token"]}
    assert before["email"] in (await kuueri("project", "get")).ok().stdout
    refused = await kuueri("project", "get", "--json", KUUERI_TOKEN=before["token"])
    assert json.loads(refused.stderr)["error"]["reason"] == "TOKEN_INVALID"
    assert before["token"] not in refused.stderr


async def test_a_rotated_signing_secret_takes_the_place_of_the_old_one(kuueri: CommandLine) -> None:
    before = await registered(kuueri)
    secret = (await kuueri("project", "rotate-signing-secret", "--grace", "1h")).ok().stdout.strip()
    ((_, after),) = kept(kuueri).items()

    assert after == {**before, "signing_secret": secret}
    assert secret.startswith("whsec_")


async def test_tokens_with_scopes(kuueri: CommandLine) -> None:
    await registered(kuueri)
    made = await kuueri(
        "project", "token", "create", "--scope", "read", "--name", "dashboard", "--ttl", "90d"
    )
    token = made.ok().stdout.strip()
    key_id = token.split("_")[1]
    assert key_id in made.stderr

    listed = (await kuueri("project", "token", "list")).ok().stdout
    assert key_id in listed
    assert "dashboard" in listed
    assert token not in listed
    full, reader = (await kuueri("project", "token", "list", "--json")).ok().documents
    assert (full["scope"], reader["scope"]) == ("TOKEN_SCOPE_FULL", "TOKEN_SCOPE_READ")

    (await kuueri("list", KUUERI_TOKEN=token)).ok()
    refused = await kuueri("subscribe", "https://example.com/", "--json", KUUERI_TOKEN=token)
    error = json.loads(refused.stderr)["error"]
    assert (error["code"], error["reason"]) == ("PERMISSION_DENIED", "SCOPE_SUBSCRIBE_NEEDED")
    assert error["hint"].startswith("the token came from KUUERI_TOKEN; `kuueri project token create")

    (await kuueri("project", "token", "revoke", key_id)).ok()
    assert (await kuueri("list", KUUERI_TOKEN=token)).exit_code == 1
    refused = await kuueri("project", "token", "revoke", full["key_id"], "--json")
    assert json.loads(refused.stderr)["error"]["reason"] == "LAST_FULL_TOKEN"


class TestDelete:
    async def test_nobody_can_be_asked(self, kuueri: CommandLine) -> None:
        project = await registered(kuueri)
        refused = await kuueri("project", "delete")

        assert refused.exit_code == 2
        assert f"({project['email']}) with its 0 tasks in queue" in refused.stderr
        assert "hint: --yes" in refused.stderr
        assert project["email"] in (await kuueri("project", "get")).ok().stdout

    async def test_it_is_gone_with_the_credentials_that_were_kept(self, kuueri: CommandLine) -> None:
        first, second = await registered(kuueri), await registered(kuueri)
        (await kuueri("subscribe", "https://example.com/", "--delay", "1h")).ok()
        (gone,) = (await kuueri("project", "delete", "--yes", "--json")).ok().documents

        assert (gone["email"], gone["deleted"]) == (second["email"], True)
        assert [entry["email"] for entry in kept(kuueri).values()] == [first["email"]]
        # The other one is in use now.
        assert first["email"] in (await kuueri("project", "get")).ok().stdout
        assert (await kuueri("project", "get", KUUERI_TOKEN=second["token"])).exit_code == 1
        (await kuueri("project", "register", "--email", second["email"])).ok()


async def test_a_server_without_an_admin_token_says_so(kuueri: CommandLine) -> None:
    for command in (("project", "limit", "p" * 16, "7"), ("admin", "projects")):
        refused = await kuueri(*command)
        assert "TASKS_ADMIN_TOKEN" in refused.stderr
        assert "there is no token" not in refused.stderr


async def test_info_is_told_without_a_token_in_80_columns(kuueri: CommandLine) -> None:
    shown = (await kuueri("info")).ok().stdout
    assert max(map(len, shown.splitlines())) <= 80
    (info,) = (await kuueri("info", "--json")).ok().documents
    assert info["store"]["kind"] == "STORE_KIND_EMBEDDED"
    assert info["store"]["product"] == "Valkey"
    # One user's own server: on loopback, and open to registration.
    assert info["limits"]["task_in_queue_limit"] == 100_000
    assert "100,000 of a project" in shown


class TestAdminToken:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[Server]:
        """A server that has an admin token, which must not be in its log."""
        directory = tmp_path / "guarded"
        directory.mkdir()
        env = {"TASKS_ADMIN_TOKEN": ADMIN_TOKEN}
        with Server(directory, *LOOPBACK, "--workers", "2", "--log-level", "debug", env=env) as server:
            yield server
        assert ADMIN_TOKEN not in server.log

    async def test_registers(self, guarded: Server, tmp_path: Path) -> None:
        kuueri = CommandLine(guarded, tmp_path)
        email = new_email()
        refused = await kuueri("project", "register", "--email", email)
        assert refused.exit_code == 1
        assert "hint: --admin-token or KUUERI_ADMIN_TOKEN give" in refused.stderr
        refused = await kuueri("project", "register", "--email", email, KUUERI_ADMIN_TOKEN="wrong-token")
        assert "that from KUUERI_ADMIN_TOKEN is not it" in refused.stderr
        assert "wrong-token" not in refused.stderr

        (await kuueri("project", "register", "--email", email, KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)).ok()

        assert email in (await kuueri("project", "get")).ok().stdout
        assert ADMIN_TOKEN not in (tmp_path / "credentials.json").read_text()

    async def test_sets_what_a_project_may_have(self, guarded: Server, tmp_path: Path) -> None:
        kuueri = CommandLine(guarded, tmp_path)
        registration = await kuueri(
            "project", "register", "--email", new_email(), "--json", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN
        )
        (made,) = registration.ok().documents
        project_id, token = made["project"]["project_id"], made["token"]

        for wrong in ("", token):
            refused = await kuueri("project", "limit", project_id, "7", KUUERI_ADMIN_TOKEN=wrong)
            assert refused.exit_code == 1
            assert "hint: --admin-token or KUUERI_ADMIN_TOKEN give" in refused.stderr
        refused = await kuueri("project", "limit", project_id, "-7", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)
        assert refused.exit_code == 2
        assert "of 1000" in (await kuueri("project", "get")).ok().stdout

        (limited,) = (
            (await kuueri("project", "limit", project_id, "1", "--json", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN))
            .ok()
            .documents
        )
        assert limited["task_in_queue_limit"] == 1
        (await kuueri("subscribe", "https://example.com/", "--delay", "1h")).ok()
        refused = await kuueri("subscribe", "https://example.com/", "--delay", "1h")
        assert "its limit of 1 tasks in queue" in refused.stderr

        back = await kuueri("project", "limit", project_id, "default", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)
        assert back.ok().stdout.endswith("1 of 1000 tasks in queue\n")

    async def test_opens_a_project_that_lost_its_token(self, guarded: Server, tmp_path: Path) -> None:
        kuueri = CommandLine(guarded, tmp_path)
        email = new_email()
        (await kuueri("project", "register", "--email", email, KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)).ok()
        (tmp_path / "credentials.json").unlink()
        taken = await kuueri("project", "register", "--email", email, KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)
        assert "kuueri admin token create" in taken.stderr

        (found,) = (
            (await kuueri("admin", "projects", "--email", email, "--json", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN))
            .ok()
            .documents
        )
        project_id = found["project_id"]
        assert project_id in (await kuueri("admin", "projects", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)).ok().stdout
        token = (
            (await kuueri("admin", "token", "create", project_id, KUUERI_ADMIN_TOKEN=ADMIN_TOKEN))
            .ok()
            .stdout.strip()
        )
        assert email in (await kuueri("project", "get", KUUERI_TOKEN=token)).ok().stdout

        refused = await kuueri("admin", "delete", project_id, KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)
        assert (refused.exit_code, "nobody can be asked" in refused.stderr) == (2, True)
        (await kuueri("admin", "delete", project_id, "--yes", KUUERI_ADMIN_TOKEN=ADMIN_TOKEN)).ok()
        assert (await kuueri("project", "get", KUUERI_TOKEN=token)).exit_code == 1
        assert (
            "no project of"
            in (await kuueri("admin", "projects", "--email", email, KUUERI_ADMIN_TOKEN=ADMIN_TOKEN))
            .ok()
            .stderr
        )
        for command in (("projects",), ("token", "create", project_id), ("delete", project_id, "--yes")):
            refused = await kuueri("admin", *command)
            assert refused.exit_code == 1
            assert "hint: --admin-token or KUUERI_ADMIN_TOKEN give" in refused.stderr

    async def test_a_server_for_others_does_not_start_without(self, tmp_path: Path) -> None:
        for workers in ("1", "2"):
            refused = await run(
                *("kuueri", "serve", "--host", "0.0.0.0", "--port", "0", "--insecure", "--workers", workers),  # noqa: S104  as an operator would
                *("--data-dir", str(tmp_path / "data")),
                cwd=tmp_path,
            )
            assert refused.exit_code == 1
            assert refused.stderr.startswith(
                "error: registration would be open on 0.0.0.0, beyond this machine"
            )
        assert not (tmp_path / "data").exists()
