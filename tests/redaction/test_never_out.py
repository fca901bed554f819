"""Nothing secret comes out: a canary in every secret, a server driven through success and failure of all.

`canaries.EXEMPT` lists what may show a secret, with the reason; each of them is seen to do so, which also
shows that the search finds what is there.
"""

import asyncio
from contextlib import aclosing
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from tests.acceptance.caller import Project, after, duration, post, reason_name, repeats, retries
from tests.acceptance.targets import Target, held, status
from tests.acceptance.test_grpc_surface import SERVICES, reflect
from tests.outages.servers import NOT_SERVING, SERVING, health
from tests.outages.valkeys import free_port
from tests.redaction.canaries import EXEMPT
from tests.redaction.world import World, world

HOUR_MS = 3_600_000
NO_TASK = "none-of-that-name"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("log_format", ["human", "json"])
async def test_nothing_secret_comes_out(tmp_path: Path, target: Target, log_format: str) -> None:
    async with world(tmp_path, log_format) as (made, channel):
        await successes(made, target)
        await refusals(made, channel, target)
        await failures(made, target)
        await damage(made, target)
        await reflection(made, channel)
        await credentials(made, channel)
        await outage(made, channel)
        await commands(made)
        for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
            await made.admin(path)
        made.processes()
        made.store()

    assert made.canaries.leaks() == {}
    assert made.canaries.needed_exemptions() == EXEMPT.keys()
    assert "DEBUG" in made.server.log


def secret_task(made: World, url: str, **fields: object) -> task_pb2.Task:
    """Return a task with a canary wherever its owner may put a secret."""
    new = made.canaries.request
    task = post(f"{url}?q={new('a query')}", **fields)
    task.http_target.url = task.http_target.url.replace("PATH", new("a path"))
    task.http_target.headers["authorization"] = f"Bearer {new('a header')}"
    task.http_target.headers["x-key"] = new("another header")
    task.http_target.query_params["k"] = new("a query parameter")
    task.http_target.body = new("a body").encode()
    return task


async def ended(made: World, task: task_pb2.Task) -> list[str]:
    """Wait for the end of a task by Watch; look at all that is told of it. Returns the reasons."""
    async with aclosing(made.project.watch(task.task_id)) as messages:
        async for message in messages:
            is_snapshot = message.WhichOneof("message") == "snapshot"
            made.answer("Watch snapshot" if is_snapshot else "Watch", message)
    made.answer("GetTimeline", await made.project.timeline_page(task.task_id, page_size=100))
    made.answer("GetTask", await made.project.get(task.task_id))
    return [reason_name(event) for event in await made.project.timeline(task.task_id)]


async def successes(made: World, target: Target) -> None:
    project = made.project
    task = await project.subscribe(
        secret_task(made, target.url("/ok"), repeat_policy=repeats(1)), "request-1"
    )
    made.answer("Subscribe's answer", task)
    await ended(made, task)
    results = await project.batch([secret_task(made, target.url("/ok")) for _ in range(2)])
    for result in results:
        await ended(made, result.task)
    held_back = await project.subscribe(secret_task(made, target.url("/later"), schedule=after(HOUR_MS)))
    for command in (project.pause, project.resume, project.run):
        await command(held_back.task_id)
    await ended(made, held_back)
    made.answer("ListTasks", await project.list(page_size=100))
    made.answer("GetProject", await project.facts())
    assert (await target.received("/ok"))[0].headers["x-key"].startswith("canary")


async def refusals(made: World, channel: grpc.aio.Channel, target: Target) -> None:
    """What is wrong with a call is named, and what it carried is not repeated."""
    project, new = made.project, made.canaries.request
    good = secret_task(made, target.url("/never"), schedule=after(HOUR_MS), task_id="taken")
    await project.subscribe(good, "request-2")
    bad = {
        "user-info": post(f"http://{new('a user')}:{new('a password')}@example.com/"),
        "a scheme": post(f"ftp://example.com/{new('a path')}"),
        "a port": post(f"http://example.com:0/{new('a path')}?{new('a query')}"),
        "a private address": secret_task(made, "http://10.1.2.3/PATH"),
        "a control character": post(f"http://example.com/{new('a path')}\n"),
        "a long URL": post("http://example.com/" + new("a path") * 80),
        "a taken id": secret_task(made, target.url("/never"), task_id="taken"),
        "an invalid id": secret_task(made, target.url("/never"), task_id="a b"),
        "a large body": secret_task(made, target.url("/never")),
        "a body on GET": secret_task(made, target.url("/never")),
        "a header value": secret_task(made, target.url("/never")),
        "a header name": secret_task(made, target.url("/never")),
        "large headers": secret_task(made, target.url("/never")),
    }
    bad["a large body"].http_target.body = new("a body").encode() * 40_000
    bad["a body on GET"].http_target.http_method = task_pb2.HTTP_METHOD_GET
    bad["a header value"].http_target.headers["x-key"] = f"{new('a header')}\r\nx: y"
    bad["a header name"].http_target.headers["webhook-id"] = new("a header")
    bad["large headers"].http_target.headers["x-key"] = new("a header") * 3_000
    for what, task in bad.items():
        await made.fails(f"the refusal of {what}", project.subscribe(task))
    await made.fails("the refusal of a reused request_id", project.subscribe(bad["a taken id"], "request-2"))
    results = await project.batch([*bad.values()])
    assert all(result.HasField("error") for result in results)
    for result in results:
        made.answer("BatchSubscribe's errors", result)
    garbage = channel.unary_unary("/kuueri.tasks.v1.TaskService/Subscribe")  # type: ignore[var-annotated]
    for content in (f"\xff{new('garbage')}", new("garbage")):
        call = garbage(content.encode("latin-1"), metadata=project.metadata)
        await made.fails("the refusal of garbage", call)
    for command in (project.get, project.cancel, project.pause, project.purge, project.timeline):
        await made.fails("NOT_FOUND", command(NO_TASK))
    await made.fails("the refusal of a page token", project.list(page_token=new("a page token")))
    await made.fails("the refusal of a resume token", project.watch(NO_TASK, new("a resume token")))


async def failures(made: World, target: Target) -> None:
    """What goes wrong on the way to the target is on the timeline, without what was sent."""
    new = made.canaries.request
    answer = {"x_secret": new("a header of an answer"), "set_cookie": f"a={new('a cookie')}"}
    target.script("/error", status(500, new("the body of an answer").encode(), **answer))
    location = f"http://10.1.2.3/{new('a path')}?{new('a query')}"
    target.script("/elsewhere", status(302, location=location))
    target.script("/loop", status(302, location=f"/loop?{new('a query')}"))
    target.script("/hangs", held(asyncio.Event()))
    expected = {
        "HTTP_STATUS": secret_task(made, target.url("/error"), retry_policy=retries(1)),
        "CONNECTION_REFUSED": secret_task(made, f"http://127.0.0.1:{free_port()}/PATH"),
        "DNS": secret_task(made, "http://nothing.invalid/PATH"),
        "TLS": secret_task(made, target.url("/PATH").replace("http:", "https:")),
        "BLOCKED_ADDRESS": secret_task(made, target.url("/elsewhere")),
        "TOO_MANY_REDIRECTS": secret_task(made, target.url("/loop")),
        "TIMEOUT": secret_task(made, target.url("/hangs"), attempt_timeout=duration(50)),
    }
    for reason in ("BLOCKED_ADDRESS", "TOO_MANY_REDIRECTS"):
        expected[reason].http_target.follow_redirects = True
    for reason, task in expected.items():
        assert reason in await ended(made, await made.project.subscribe(task)), reason
    flying = await made.project.subscribe(secret_task(made, target.url("/hangs")))
    await target.received("/hangs", 2)
    await made.project.cancel(flying.task_id)
    await ended(made, flying)


async def damage(made: World, target: Target) -> None:
    """What cannot be read is reported, and not shown."""
    task = await made.project.subscribe(secret_task(made, target.url("/damaged"), schedule=after(HOUR_MS)))
    async with made.valkey.client(password=made.password, db=2) as store:
        (config,) = [key async for key in store.scan_iter(f"*:config:*/{task.task_id}")]
        await store.hset(config, "request", made.canaries.damage("a record"))
        await made.project.run(task.task_id)
        assert "UNREADABLE" in await ended(made, task)
        made.answer("ListTasks", await made.project.list(page_size=100))
        await store.hset(config, "policy", made.canaries.damage("a policy"))
        await made.fails("GetTask of a damaged task", made.project.get(task.task_id))
        await store.delete(config)


async def reflection(made: World, channel: grpc.aio.Channel) -> None:
    for version in ("v1", "v1alpha"):
        ask = reflect(channel, version)
        made.answer("reflection", await ask(reflection_pb2.ServerReflectionRequest(list_services="")))
        for service in SERVICES:
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
            made.answer("reflection", await ask(request))


async def credentials(made: World, channel: grpc.aio.Channel) -> None:
    """Credentials that are refused, and those that are changed."""
    project, new = made.project, made.canaries.credential
    altered = project.token[:-1] + ("A" if project.token[-1] != "A" else "B")
    nobody = f"kq_{'0' * 20}_{new('a token')[:32]}{'0' * 11}_000000"
    for value in (new("a token"), f"Basic {new('a token')}", f"Bearer {new('a token')}", f"Bearer {nobody}"):
        stranger = Project(channel, project.project_id, "", "")
        stranger.metadata = (("authorization", value),)
        await made.fails("the refusal of a token", stranger.get(NO_TASK))
        register = projects_pb.RegisterRequest(email="you@example.com")
        call = stranger.projects.Register(register, metadata=stranger.metadata)
        await made.fails("the refusal of an admin token", call)
    await made.fails("the refusal of a mistyped token", Project(channel, "", altered, "").get(NO_TASK))
    more = (*project.metadata, ("x-secret", new("metadata")))
    await made.fails(
        "NOT_FOUND", project.tasks.GetTask(tasks_pb.GetTaskRequest(task_id=NO_TASK), metadata=more)
    )
    signing = await project.projects.RotateSigningSecret(
        projects_pb.RotateSigningSecretRequest(), metadata=project.metadata
    )
    made.take("the second signing secret", signing.signing_secret)
    made.answer("RotateSigningSecret's answer", signing)
    rotated = await project.projects.RotateToken(projects_pb.RotateTokenRequest(), metadata=project.metadata)
    made.take("the second token", rotated.token)
    made.answer("RotateToken's answer", rotated)
    made.project = Project(channel, project.project_id, rotated.token, signing.signing_secret)


async def outage(made: World, channel: grpc.aio.Channel) -> None:
    async with health(channel) as following:
        made.valkey.kill()
        await following.becomes(NOT_SERVING)
        await made.fails("UNAVAILABLE", made.project.get(NO_TASK))
        task = secret_task(made, "http://127.0.0.1:1/PATH")
        await made.fails("UNAVAILABLE", made.project.subscribe(task))
        await made.admin("/readyz")
        await made.valkey.start()
        await following.becomes(SERVING)


async def commands(made: World) -> None:
    """What the command line says of a configuration, good and bad."""
    config, new = ("--config", str(made.config)), made.canaries.credential
    await made.command("kuueri instances", "instances", *config)
    await made.command("kuueri keys", "keys", "list", *config)
    await made.command("kuueri keys", "keys", "rotate", *config)
    wrong = made.settings["DATABASE"] | {"REDIS": {"URL": f"http://{new('a user')}:{new('a password')}@h"}}
    for name, settings in {
        "url": {"DATABASE": wrong},
        "password": {"DATABASE": {"REDIS": {"PASSWORD": new("a password"), "HOST": 7}}},
        "key": {"SERVICE": {"CRYPTO": {"KEY": new("a key")}}},
        "keys": {"SERVICE": {"CRYPTO": {"KEY": [f"a:{new('a key')}", 7]}}},
        "token": {"ADMIN_TOKEN": f"{new('an admin token')} "},
        "proxy": {"EGRESS_PROXY": f"socks5://{new('a user')}:{new('a password')}@proxy"},
    }.items():
        path = made.write(f"{name}.json", settings)
        await made.command("a configuration that is refused", "serve", "--config", str(path), code=2)
    unreachable = f"redis://{new('a user')}:{new('a password')}@127.0.0.1:{free_port()}"
    path = made.write("unreachable.json", made.settings | {"DATABASE": {"REDIS": {"URL": unreachable}}})
    await made.command("a start without a store", "serve", "--config", str(path), "--port", "0", code=1)
    path = made.write("broken.json", {})
    path.write_text(f'{{"ADMIN_TOKEN": {new("an admin token")}')
    await made.command("a configuration that is no JSON", "serve", "--config", str(path), code=2)
    await made.generate_key()
