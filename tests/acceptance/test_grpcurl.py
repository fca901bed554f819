"""grpcurl, which knows nothing of the protos but what reflection tells it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.caller import Project, types
from tests.acceptance.command import Finished, run
from tests.acceptance.served import Server
from tests.acceptance.targets import OK, Target, status

SERVICE = "kuueri.tasks.v1.TaskService"


def messages(output: str) -> list[dict[str, Any]]:
    """Read JSON objects that follow each other."""
    decoder, found = json.JSONDecoder(), []
    while output := output.lstrip():
        message, end = decoder.raw_decode(output)
        found.append(message)
        output = output[end:]
    return found


async def grpcurl(server: Server, cwd: Path, *arguments: str, token: str = "") -> Finished:
    authorization = ("-H", f"authorization: Bearer {token}") if token else ()
    *options, verb = arguments
    return await run("grpcurl", "-plaintext", *authorization, *options, server.address, verb, cwd=cwd)


async def test_grpcurl_lists_and_describes(server: Server, tmp_path: Path) -> None:
    listed = (await grpcurl(server, tmp_path, "list")).ok().stdout.split()
    assert set(listed) >= {SERVICE, "kuueri.tasks.v1.ProjectService", "grpc.health.v1.Health"}

    described = await run("grpcurl", "-plaintext", server.address, "describe", SERVICE, cwd=tmp_path)
    for call in ("Subscribe", "BatchSubscribe", "Cancel", "RunTask"):
        assert f"rpc {call} (" in described.ok().stdout
    assert "returns ( stream .kuueri.tasks.v1.WatchResponse )" in described.stdout
    request = await run(
        "grpcurl", "-plaintext", server.address, "describe", "kuueri.tasks.v1.HttpTarget", cwd=tmp_path
    )
    assert "map<string, string> query_params" in request.ok().stdout


async def test_grpcurl_asks_for_health(server: Server, tmp_path: Path) -> None:
    answer = await grpcurl(server, tmp_path, "grpc.health.v1.Health/Check")
    assert json.loads(answer.ok().stdout) == {"status": "SERVING"}


async def test_grpcurl_subscribes_and_watches_to_the_end(
    server: Server, project: Project, target: Target, tmp_path: Path
) -> None:
    task = {
        "task_id": "mine",
        "http_target": {
            "url": target.script("/hook", status(500), OK),
            "http_method": "HTTP_METHOD_PUT",
            "headers": {"x-a": "1"},
            "body": "eyJhIjogMX0=",
        },
        "schedule": {"delay": "0.2s"},
        "retry_policy": {"max_retries": 1, "backoff": {"interval": "0.05s", "growth": "GROWTH_LINEAR"}},
    }
    subscribed = await grpcurl(
        server, tmp_path, "-d", json.dumps({"task": task}), f"{SERVICE}/Subscribe", token=project.token
    )
    accepted = json.loads(subscribed.ok().stdout)["task"]
    assert (accepted["task_id"], accepted["state"]) == ("mine", "TASK_STATE_SCHEDULED")

    watched = await grpcurl(
        server, tmp_path, "-d", '{"task_id": "mine"}', f"{SERVICE}/Watch", token=project.token
    )
    told = messages(watched.ok().stdout)
    _, events = await project.ended("mine")
    assert "snapshot" in told[0]
    assert all(message["resume_token"] for message in told)
    seen = [message["event"]["type"].removeprefix("EVENT_TYPE_") for message in told if "event" in message]
    assert seen == types(events)
    assert seen[-1] == "COMPLETED"
    first, second = target.at("/hook")
    assert (first.method, first.body, first.headers["x-a"]) == ("PUT", b'{"a": 1}', "1")
    assert second.attempt == 2


async def test_grpcurl_shows_what_was_wrong_with_each_field(
    server: Server, project: Project, tmp_path: Path
) -> None:
    refused = await grpcurl(
        server,
        tmp_path,
        *("-d", '{"task": {"http_target": {"url": "nowhere", "http_method": 77}}}'),
        f"{SERVICE}/Subscribe",
        token=project.token,
    )
    assert refused.exit_code != 0
    assert "InvalidArgument" in refused.stderr
    # grpcurl resolves the types of the details through reflection.
    for field in ("task.http_target.url", "task.http_target.http_method"):
        assert field in refused.stderr


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_grpcurl_without_a_valid_token_is_refused(server: Server, tmp_path: Path, token: str) -> None:
    refused = await grpcurl(server, tmp_path, f"{SERVICE}/ListTasks", token=token)
    assert refused.exit_code != 0
    assert "Unauthenticated" in refused.stderr


async def test_grpcurl_registers_a_project(server: Server, tmp_path: Path) -> None:
    made = await grpcurl(
        server,
        tmp_path,
        *("-d", json.dumps({"email": f"{tmp_path.name}@example.com"})),
        "kuueri.tasks.v1.ProjectService/Register",
    )
    token = json.loads(made.ok().stdout)["token"]
    listed, shown = await asyncio.gather(
        grpcurl(server, tmp_path, f"{SERVICE}/ListTasks", token=token),
        grpcurl(server, tmp_path, "kuueri.tasks.v1.ProjectService/GetProject", token=token),
    )
    assert json.loads(listed.ok().stdout) == {}
    assert json.loads(shown.ok().stdout)["project"]["email"] == f"{tmp_path.name}@example.com"
