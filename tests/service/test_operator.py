"""The calls of the operator: the way back into a project that has lost its token, and out of one."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from kuueri_grpc.pb import project_service_pb2 as pb
from kuueri_grpc.pb.token_pb2 import TokenScope
from tests.service.edge import Caller, Edge, Metadata, serving
from tests.service.statuses import refusal

ADMIN: Metadata = (("authorization", "Bearer an-admin-token"),)


@pytest.fixture
async def guarded(store_url: str) -> AsyncIterator[Edge]:
    """A server with an admin token."""
    async with serving(store_url, admin_token="an-admin-token") as edge:
        yield edge


async def registered(edge: Edge, email: str) -> Caller:
    made = await edge.projects.Register(pb.RegisterRequest(email=email), metadata=ADMIN)
    return Caller(made.project.project_id, made.token)


async def listed(edge: Edge, page_size: int = 0, email: str = "") -> list[str]:
    """Return the addresses of all pages, in the order of the list."""
    request, emails = pb.ListProjectsRequest(page_size=page_size, email=email), list[str]()
    while True:
        page = await edge.projects.ListProjects(request, metadata=ADMIN)
        assert len(page.projects) <= (page_size or 50)
        emails += [one.email for one in page.projects]
        if not page.next_page_token:
            return emails
        request.page_token = page.next_page_token


async def test_a_project_that_lost_its_token_gets_another_one(guarded: Edge) -> None:
    lost = await registered(guarded, "lost@example.com")
    taken = pb.RegisterRequest(email="lost@example.com")
    refused = await refusal(guarded.projects.Register(taken, metadata=ADMIN))
    assert "kuueri admin token create" in refused.text
    find = pb.ListProjectsRequest(email="Lost@Example.com")
    (found,) = (await guarded.projects.ListProjects(find, metadata=ADMIN)).projects
    assert (found.project_id, found.email) == (lost.project_id, "lost@example.com")
    made = await guarded.projects.CreateToken(
        pb.CreateTokenRequest(scope=TokenScope.TOKEN_SCOPE_FULL, project_id=found.project_id), metadata=ADMIN
    )
    back = Caller(found.project_id, made.token)
    answer = await guarded.projects.GetProject(pb.GetProjectRequest(), metadata=back.metadata)
    assert answer.project.project_id == lost.project_id


@pytest.mark.parametrize("page_size", [0, 1, 3, 1_000])
async def test_every_project_is_listed_once(guarded: Edge, page_size: int) -> None:
    emails = {f"p{n}@example.com" for n in range(12)}
    for email in emails:
        await registered(guarded, email)
    found = await listed(guarded, page_size)
    assert (len(found), set(found)) == (12, emails)


async def test_a_project_that_is_deleted_is_not_listed(guarded: Edge) -> None:
    kept, gone = [await registered(guarded, f"{name}@example.com") for name in ("kept", "gone")]
    await guarded.projects.DeleteProject(pb.DeleteProjectRequest(project_id=gone.project_id), metadata=ADMIN)
    assert await listed(guarded) == ["kept@example.com"]
    assert await listed(guarded, email="gone@example.com") == []
    refused = await refusal(guarded.projects.GetProject(pb.GetProjectRequest(), metadata=gone.metadata))
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    await guarded.projects.GetProject(pb.GetProjectRequest(), metadata=kept.metadata)
    await registered(guarded, "gone@example.com")


async def test_the_operator_names_the_project(guarded: Edge) -> None:
    create = pb.CreateTokenRequest(scope=TokenScope.TOKEN_SCOPE_READ)
    refused = await refusal(guarded.projects.CreateToken(create, metadata=ADMIN))
    assert list(refused.fields) == ["project_id"]
    refused = await refusal(guarded.projects.DeleteProject(pb.DeleteProjectRequest(), metadata=ADMIN))
    assert list(refused.fields) == ["project_id"]
    create.project_id = "p" * 16
    refused = await refusal(guarded.projects.CreateToken(create, metadata=ADMIN))
    assert refused.reason == "PROJECT_NOT_FOUND"


async def test_a_project_names_none_but_itself(guarded: Edge) -> None:
    mine, other = [await registered(guarded, f"{name}@example.com") for name in ("mine", "other")]
    create = pb.CreateTokenRequest(scope=TokenScope.TOKEN_SCOPE_READ)
    for project_id in (other.project_id, "p" * 16):
        create.project_id = project_id
        refused = await refusal(guarded.projects.CreateToken(create, metadata=mine.metadata))
        assert (refused.code, list(refused.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["project_id"])
        delete = pb.DeleteProjectRequest(project_id=project_id)
        refused = await refusal(guarded.projects.DeleteProject(delete, metadata=mine.metadata))
        assert list(refused.fields) == ["project_id"]
    create.project_id = mine.project_id
    await guarded.projects.CreateToken(create, metadata=mine.metadata)
    await guarded.projects.GetProject(pb.GetProjectRequest(), metadata=other.metadata)


async def test_no_token_of_a_project_lists_projects(guarded: Edge) -> None:
    project = await registered(guarded, "me@example.com")
    for metadata in (project.metadata, (("authorization", "Bearer another"),)):
        refused = await refusal(guarded.projects.ListProjects(pb.ListProjectsRequest(), metadata=metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    refused = await refusal(guarded.projects.ListProjects(pb.ListProjectsRequest()))
    assert refused.reason == "TOKEN_MISSING"


async def test_the_admin_token_opens_no_other_call(guarded: Edge) -> None:
    calls: tuple[tuple[Any, Any], ...] = (
        (guarded.projects.GetProject, pb.GetProjectRequest()),
        (guarded.projects.ListTokens, pb.ListTokensRequest()),
        (guarded.projects.RotateSigningSecret, pb.RotateSigningSecretRequest()),
    )
    for call, request in calls:
        refused = await refusal(call(request, metadata=ADMIN))
        assert refused.code is grpc.StatusCode.UNAUTHENTICATED


async def test_without_an_admin_token_nobody_is_the_operator(edge: Edge, owner: Caller) -> None:
    for metadata in (owner.metadata, ADMIN, ()):
        refused = await refusal(edge.projects.ListProjects(pb.ListProjectsRequest(), metadata=metadata))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ADMIN_TOKEN_NOT_SET",
        )
    create = pb.CreateTokenRequest(scope=TokenScope.TOKEN_SCOPE_READ, project_id=owner.project_id)
    assert (await refusal(edge.projects.CreateToken(create, metadata=ADMIN))).reason == "TOKEN_INVALID"


@pytest.mark.parametrize("token", ["x", "99/", "-1/a", "0", "0/\u0660"])
async def test_another_page_token_is_refused(guarded: Edge, token: str) -> None:
    request = pb.ListProjectsRequest(page_token=token)
    refused = await refusal(guarded.projects.ListProjects(request, metadata=ADMIN))
    assert refused.reason == "PAGE_TOKEN_INVALID"
