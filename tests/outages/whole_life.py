"""The least permissions of a store's user, and every call that needs them."""

import asyncio
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import grpc.aio
from redis.asyncio import Redis

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb.token_pb2 import TOKEN_SCOPE_READ
from tests.acceptance.caller import after, post, register, repeats, retries
from tests.acceptance.served import PATIENCE_S, command, environment
from tests.acceptance.targets import Target, status
from tests.keys import ENVIRONMENT
from tests.outages.valkeys import Valkey

PASSWORD = "correct-horse"
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
RULE = re.search(r"^ACL SETUSER tasks on >PASSWORD (.*)$", DOCUMENT, re.MULTILINE)
assert RULE is not None
RULES = RULE[1].split()
COMMANDS = [rule[1:] for rule in RULES if rule.startswith("+")]


def command_of(client: Redis) -> Callable[..., Any]:
    """Return what sends any command; the library has no types for it."""
    send: Any = client.execute_command
    return cast("Callable[..., Any]", send)


async def permit(valkey: Valkey, *rules: str) -> str:
    """Give a user these permissions alone; return the URL for it."""
    async with valkey.client() as store:
        await command_of(store)("ACL SETUSER", "tasks", "reset", "on", f">{PASSWORD}", *rules)
    return f"redis://tasks:{PASSWORD}@127.0.0.1:{valkey.port}"


async def whole_life(channel: grpc.aio.Channel, target: Target, url: str, directory: Path) -> None:
    """Make every call of the API, and every command that uses the store itself."""
    project = await register(channel)
    at, metadata = target.url("/hook"), project.metadata
    # Retried, repeated, and with a first event of its own.
    bad = target.script("/bad", status(500))
    tasks = [
        await project.subscribe(post(at), "request-1"),
        await project.subscribe(post(bad, retry_policy=retries(2))),
        await project.subscribe(post(at, repeat_policy=repeats(2))),
        *(result.task for result in await project.batch([post(at), post(at)], "request-2")),
    ]
    assert (await project.subscribe(post(at), "request-1")).task_id == tasks[0].task_id
    for task in tasks:
        await project.ended(task.task_id)
    later = [await project.subscribe(post(at, schedule=after(3_600_000))) for _ in range(3)]
    assert len((await project.list()).tasks) == len(tasks) + len(later)
    await project.pause(later[0].task_id)
    await project.resume(later[0].task_id)
    await project.cancel(later[0].task_id)
    await project.run(later[1].task_id)
    await project.ended(later[1].task_id)
    await project.purge(later[1].task_id)
    made = await project.projects.CreateToken(
        projects_pb.CreateTokenRequest(scope=TOKEN_SCOPE_READ), metadata=metadata
    )
    await project.projects.ListTokens(projects_pb.ListTokensRequest(), metadata=metadata)
    await project.projects.RevokeToken(
        projects_pb.RevokeTokenRequest(key_id=made.access_token.key_id), metadata=metadata
    )
    await project.rotate_signing_secret()
    await project.facts()
    rotated = await project.projects.RotateToken(projects_pb.RotateTokenRequest(), metadata=metadata)
    await run("instances", "--redis-url", url, cwd=directory)
    await run("keys", "rotate", "--redis-url", url, cwd=directory)
    metadata = (("authorization", f"Bearer {rotated.token}"),)
    await project.projects.DeleteProject(projects_pb.DeleteProjectRequest(), metadata=metadata)


async def run(*arguments: str, cwd: Path) -> None:
    """Run a command of the server's operator, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *(command("kuueri"), *arguments), cwd=cwd, env=environment(cwd, ENVIRONMENT), stdin=subprocess.DEVNULL
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
