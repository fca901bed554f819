"""A method is in the list of open ones, or has a scope, or is refused."""

from typing import Any

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import project_service_pb2, server_service_pb2, task_service_pb2
from kuueri_grpc.service import reflection
from kuueri_grpc.service.admission import OPEN_CALLS, OPERATOR_CALLS, SCOPES
from kuueri_grpc.service.guard import API_PREFIX
from kuueri_grpc.service.open_methods import OPEN_METHODS
from tests.service.edge import serving
from tests.service.statuses import refusal

NEW = ("/kuueri.tasks.v1.TaskService/New", "/kuueri.tasks.v2.TaskService/New", "/grpc.health.v1.Health/New")


def test_every_method_of_the_api_has_a_scope_or_is_the_operators() -> None:
    methods = {
        f"{service.name}/{method.name}"
        for module in (task_service_pb2, project_service_pb2, server_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == SCOPES.keys() | OPERATOR_CALLS | OPEN_CALLS
    assert not any(method.startswith(API_PREFIX) for method in OPEN_METHODS)


@pytest.mark.parametrize("method", NEW)
async def test_a_method_without_a_scope_is_refused(
    store_url: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: Any, context: Any) -> bytes:
        raise AssertionError("it was served")

    add = reflection.add_reflection

    def add_more(server: grpc.aio.Server, services: Any) -> None:
        add(server, services)
        service, _, name = method[1:].partition("/")
        server.add_registered_method_handlers(service, {name: grpc.unary_unary_rpc_method_handler(answer)})

    monkeypatch.setattr("kuueri_grpc.service.server.add_reflection", add_more)
    async with serving(store_url) as edge:
        owner = await edge.register("owner@example.com")
        call: Any = edge.channel.unary_unary(method)
        assert (await refusal(call(b""))).code is grpc.StatusCode.UNAUTHENTICATED
        refused = await refusal(call(b"", metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_NOT_DECLARED")
