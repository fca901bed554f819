"""What any gRPC client finds at the port: health, reflection, credentials, canonical errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from tests.acceptance.caller import Project, after, connected, post, register, state_name
from tests.acceptance.served import PATIENCE_S, Server
from tests.acceptance.targets import Target, held
from tests.service.statuses import refusal, unpacked

HOUR_MS = 3_600_000
SERVICES = (
    "kuueri.tasks.v1.TaskService",
    "kuueri.tasks.v1.ProjectService",
    "kuueri.tasks.v1.ServerService",
)


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_is_serving(channel: grpc.aio.Channel, service: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_health_turns_to_not_serving_when_the_server_is_told_to_stop(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        async with connected(server.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            async with asyncio.timeout(PATIENCE_S):
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
                await stopping
            watch.cancel()


def reflect(
    channel: grpc.aio.Channel, version: str
) -> Callable[[reflection_pb2.ServerReflectionRequest], Awaitable[Any]]:
    """Return a function that asks the reflection service of a version."""
    method: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )

    async def ask(request: reflection_pb2.ServerReflectionRequest) -> Any:
        async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            yield request

        (response,) = [response async for response in method(requests())]
        return response

    return ask


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes(channel: grpc.aio.Channel, version: str) -> None:
    ask = reflect(channel, version)
    listed = await ask(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {*SERVICES, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"}

    for service in names:
        described = await ask(reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
        files = [
            FileDescriptorProto.FromString(serialized)
            for serialized in described.file_descriptor_response.file_descriptor_proto
        ]
        declared = {f"{file.package}.{declared.name}" for file in files for declared in file.service}
        assert service in declared


NO_TOKEN: list[tuple[tuple[str, str], ...]] = [
    (),
    (("authorization", ""),),
    (("authorization", "Basic dXNlcg=="),),
    (("authorization", "Bearer"),),
    (("authorization", "Bearer nonsense"),),
]


@pytest.mark.parametrize("metadata", NO_TOKEN)
async def test_calls_without_a_valid_token_are_refused(
    project: Project, target: Target, metadata: tuple[tuple[str, str], ...]
) -> None:
    project.metadata = metadata  # type: ignore[assignment]
    for call in (
        project.subscribe(post(target.url("/hook"))),
        project.get("mine"),
        project.list(),
        project.cancel("mine"),
        project.facts(),
        project.watch("mine"),
    ):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.UNAUTHENTICATED
        assert refused.reason in ("TOKEN_MISSING", "TOKEN_INVALID")
    assert target.exchanges == []


async def test_a_token_of_the_right_form_that_is_nobodys_is_refused(project: Project) -> None:
    last = "A" if project.token[-1] != "A" else "B"
    project.metadata = (("authorization", f"Bearer {project.token[:-1]}{last}"),)

    refused = await refusal(project.list())

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_the_task_of_another_project_is_not_found(
    channel: grpc.aio.Channel, project: Project, target: Target
) -> None:
    stranger = await register(channel)
    await project.subscribe(post(target.url("/hook"), task_id="mine", schedule=after(HOUR_MS)))

    for call in (
        stranger.get("mine"),
        stranger.cancel("mine"),
        stranger.pause("mine"),
        stranger.resume("mine"),
        stranger.run("mine"),
        stranger.purge("mine"),
        stranger.timeline("mine"),
        stranger.watch("mine"),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert list((await stranger.list()).tasks) == []
    # The same id is free to others, and each sees its own.
    await stranger.subscribe(post(target.url("/other"), task_id="mine", schedule=after(HOUR_MS)))
    await stranger.cancel("mine")
    assert state_name(await project.get("mine")) == "SCHEDULED"
    await project.cancel("mine")


async def test_a_reused_task_id_already_exists_also_after_the_end(project: Project, target: Target) -> None:
    await project.subscribe(post(target.url("/hook"), task_id="mine"))
    await project.ended("mine")

    refused = await refusal(project.subscribe(post(target.url("/hook"), task_id="mine")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS")
    assert len(target.at("/hook")) == 1


async def test_an_unknown_task_is_not_found(project: Project) -> None:
    for call in (project.get("nowhere"), project.cancel("nowhere"), project.purge("nowhere")):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
        assert refused.details["ResourceInfo"].resource_name.endswith("nowhere")


async def test_purge_of_a_running_task_is_a_failed_precondition(project: Project, target: Target) -> None:
    task = await project.subscribe(post(target.script("/hook", held(asyncio.Event()))))
    await target.received("/hook")

    refused = await refusal(project.purge(task.task_id))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_RUNNING")
    await project.cancel(task.task_id)


async def test_the_same_request_id_subscribes_once(project: Project, target: Target) -> None:
    task = post(target.url("/hook"), schedule=after(HOUR_MS))
    first = await project.subscribe(task, request_id="call-1")
    assert await project.subscribe(task, request_id="call-1") == first
    await project.run(first.task_id)
    await project.ended(first.task_id)
    again = await project.subscribe(task, request_id="call-1")
    assert again.task_id == first.task_id
    assert len(target.at("/hook")) == 1

    task.queue = "other"
    refused = await refusal(project.subscribe(task, request_id="call-1"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_the_same_request_id_subscribes_a_batch_once(project: Project, target: Target) -> None:
    tasks = [post(target.url(f"/hook?{i}")) for i in range(250)]
    first = await project.batch(tasks, request_id="call-1")
    for result in first:
        await project.ended(result.task.task_id)
    again = await project.batch(tasks, request_id="call-1")
    assert [result.task.task_id for result in again] == [result.task.task_id for result in first]
    assert len(target.at("/hook")) == 250
    await project.purge(first[7].task.task_id)
    results = await project.batch(tasks, request_id="call-1")
    assert [i for i, result in enumerate(results) if result.HasField("error")] == [7]
    assert unpacked(results[7].error)["ErrorInfo"].reason == "TASK_PURGED"  # type: ignore[attr-defined]
    assert len(target.at("/hook")) == 250


async def test_an_email_address_registers_once(channel: grpc.aio.Channel, project: Project) -> None:
    facts = await project.facts()
    request = projects_pb.RegisterRequest(email=facts.email.upper())

    refused = await refusal(project.projects.Register(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_EXISTS")


async def test_all_bad_fields_are_named_at_once(project: Project) -> None:
    task = post("ftp://user:secret@/", queue="not a queue", task_id="äh")
    task.http_target.http_method = 99  # type: ignore[assignment]  # which is the point
    task.retry_policy.max_retries = -1

    refused = await refusal(project.subscribe(task))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(refused.fields) == {
        "task.task_id",
        "task.queue",
        "task.http_target.url",
        "task.http_target.http_method",
        "task.retry_policy.max_retries",
    }


async def test_a_watch_without_a_scope_is_refused(project: Project) -> None:
    stream = project.tasks.Watch(tasks_pb.WatchRequest(), metadata=project.metadata)
    refused = await refusal(stream.__aiter__())
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refused.fields) == ["scope"]
