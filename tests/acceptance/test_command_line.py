"""The client commands from register to cancel, for people and for programs."""

import json
import stat
from pathlib import Path

import pytest

from tests.acceptance.caller import Project, new_email, post
from tests.acceptance.command import Finished, run
from tests.acceptance.served import Server
from tests.acceptance.targets import OK, Target, status


class CommandLine:
    """`kuueri` against one server, with the credentials of one user."""

    def __init__(self, server: Server, home: Path, **env: str) -> None:
        self._env = {"KUUERI_ADDRESS": server.address, **env}
        self.home = home

    async def __call__(self, *arguments: str, stdin: bytes = b"", **env: str) -> Finished:
        return await run("kuueri", *arguments, cwd=self.home, env={**self._env, **env}, stdin=stdin)


@pytest.fixture
def kuueri(server: Server, tmp_path: Path) -> CommandLine:
    """The commands of a user who has no project yet."""
    return CommandLine(server, tmp_path)


@pytest.fixture
def owner(server: Server, project: Project, tmp_path: Path) -> CommandLine:
    """The commands of a user with a token in the environment."""
    return CommandLine(server, tmp_path, KUUERI_TOKEN=project.token)


async def test_register_keeps_credentials_that_only_their_owner_reads(kuueri: CommandLine) -> None:
    email = new_email()
    made = (await kuueri("project", "register", "--email", email)).ok()

    assert email in made.stdout
    assert "whsec_" in made.stdout
    path = kuueri.home / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in made.stderr
    # Later commands find the token there.
    assert email in (await kuueri("project", "show")).ok().stdout
    refused = await kuueri("project", "register", "--email", email)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ")


async def test_the_flow_for_programs(kuueri: CommandLine, target: Target) -> None:
    (made,) = (await kuueri("project", "register", "--email", new_email(), "--json")).ok().documents
    assert made["credentials_file"] == str(kuueri.home / "credentials.json")

    url = target.script("/hook", status(500), OK)
    subscribed = await kuueri(
        *("subscribe", url, "--id", "mine", "--method", "put", "-H", "X-A: 1", "--query", "b=2"),
        *("--data", '{"a": 1}', "--max-retries", "1", "--retry-interval", "20ms", "--label", "team=a"),
        "--json",
    )
    (task,) = subscribed.ok().documents
    assert (task["task_id"], task["state"]) == ("mine", "TASK_STATE_SCHEDULED")

    watched = (await kuueri("watch", "mine", "--json")).ok().documents
    assert "snapshot" in watched[0]
    seen = [message["event"]["type"] for message in watched if "event" in message]
    assert seen[0] == "EVENT_TYPE_SUBSCRIBED"
    assert seen[-2:] == ["EVENT_TYPE_SUCCEEDED", "EVENT_TYPE_COMPLETED"]
    first, _ = target.at("/hook")
    assert (first.method, first.query, first.body) == ("PUT", "b=2", b'{"a": 1}')
    assert first.headers["x-a"] == "1"

    (await kuueri("subscribe", url, "--id", "later", "--delay", "1h", "--label", "team=b", "--json")).ok()
    listed = (await kuueri("list", "--json")).ok().documents
    assert [task["task_id"] for task in listed] == ["later", "mine"]
    (only,) = (await kuueri("list", "--label", "team=a", "--json")).ok().documents
    assert only["task_id"] == "mine"

    (canceled,) = (await kuueri("cancel", "later", "--json")).ok().documents
    assert canceled["state"] == "TASK_STATE_CANCELED"
    (read,) = (await kuueri("get", "mine", "--json")).ok().documents
    assert (read["attempt_count"], read["state"]) == (2, "TASK_STATE_COMPLETED")
    refused = await kuueri("cancel", "mine", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stderr)["error"]["reason"] == "TASK_ENDED"


async def test_the_flow_for_people(owner: CommandLine, target: Target) -> None:
    url = target.script("/hook", status(503), OK)

    followed = await owner(
        "subscribe", url, "--id", "mine", "--max-retries", "1", "--retry-interval", "10ms", "--watch"
    )
    for word in ("mine", "SUBSCRIBED", "DISPATCHED", "ERRORED", "503", "RETRY_SCHEDULED", "COMPLETED"):
        assert word in followed.ok().stdout
    assert "\x1b" not in followed.stdout

    subscribed = (await owner("subscribe", url, "--id", "later", "--delay", "1h")).ok()
    assert "later" in subscribed.stdout
    assert "SCHEDULED" in subscribed.stdout
    rows = (await owner("list")).ok().stdout.splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [["later", "SCHEDULED"], ["mine", "COMPLETED"]]
    assert (await owner("pause", "later")).ok().stdout.split() == ["later", "PAUSED"]
    assert (await owner("resume", "later")).ok().stdout.split() == ["later", "SCHEDULED"]
    assert (await owner("cancel", "later")).ok().stdout.split() == ["later", "CANCELED"]
    assert (await owner("purge", "later")).ok().stdout.split() == ["later", "purged"]
    missing = await owner("get", "later")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr.startswith("error: ")


async def test_the_exit_status_tells_how_the_task_ended(owner: CommandLine, target: Target) -> None:
    url = target.script("/hook", status(500))

    failed = await owner("subscribe", url, "--watch", "--exit-status", "--json")

    assert failed.exit_code == 1
    seen = [message["event"]["type"] for message in failed.documents if "event" in message]
    assert seen[-1] == "EVENT_TYPE_FAILED"


async def test_run_makes_a_waiting_task_due_now(owner: CommandLine, target: Target) -> None:
    (await owner("subscribe", target.url("/hook"), "--id", "mine", "--delay", "1h")).ok()
    (await owner("run", "mine")).ok()

    await target.received("/hook")
    timeline = (await owner("timeline", "mine")).ok()
    assert "DISPATCHED" in timeline.stdout


@pytest.mark.parametrize("option", ["--data-file", "--data"])
async def test_a_body_from_standard_input_arrives_as_it_is(
    owner: CommandLine, target: Target, option: str
) -> None:
    body = bytes(range(256)) * 1_000
    (await owner("subscribe", target.url("/hook"), option, "-", stdin=body)).ok()

    (exchange,) = await target.received("/hook")
    assert exchange.body == body


async def test_the_token_of_the_environment_comes_before_the_file(
    kuueri: CommandLine, project: Project, target: Target
) -> None:
    (await kuueri("project", "register", "--email", new_email(), "--json")).ok()
    await project.subscribe(post(target.url("/hook"), task_id="mine"))
    await project.ended("mine")

    (read,) = (await kuueri("get", "mine", "--json", KUUERI_TOKEN=project.token)).ok().documents
    assert read["task_id"] == "mine"
    assert (await kuueri("get", "mine")).exit_code == 1


async def test_without_a_server_the_exit_code_is_its_own(tmp_path: Path) -> None:
    refused = await run("kuueri", "list", "--address", "127.0.0.1:1", "--token", "t", cwd=tmp_path)
    assert refused.exit_code == 3
    assert "127.0.0.1:1" in refused.stderr
