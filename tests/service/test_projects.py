"""ProjectService over a channel, and the credentials of every call."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from kuueri_grpc.pb import project_service_pb2 as pb
from kuueri_grpc.pb import server_service_pb2, task_pb2, task_service_pb2
from kuueri_grpc.pb.token_pb2 import TokenScope
from kuueri_grpc.service.admission import OPEN_CALLS, OPERATOR_CALLS, SCOPES
from kuueri_grpc.service.guard import API_PREFIX
from kuueri_grpc.service.server import SERVICES
from kuueri_grpc.service.times import to_duration
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import Refusal, refusal


async def get_project(edge: Edge, caller: Caller) -> pb.GetProjectResponse:
    response: pb.GetProjectResponse = await edge.projects.GetProject(
        pb.GetProjectRequest(), metadata=caller.metadata
    )
    return response


async def test_registers_a_project(edge: Edge) -> None:
    response = await edge.projects.Register(pb.RegisterRequest(email="ops@example.com"))
    assert response.project.email == "ops@example.com"
    assert response.project.project_id
    assert response.project.HasField("create_time")
    assert (response.project.task_in_queue, response.project.task_in_queue_limit) == (0, 1_000)
    assert response.token.startswith("kq_")
    assert response.signing_secret.startswith("whsec_")


async def test_refuses_an_address_in_use_in_any_case(edge: Edge) -> None:
    await edge.register("ops@example.com")
    refused = await refusal(edge.projects.Register(pb.RegisterRequest(email="OPS@example.com")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_EXISTS")


async def test_refuses_what_is_no_address(edge: Edge) -> None:
    refused = await refusal(edge.projects.Register(pb.RegisterRequest(email="ops")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refused.fields == {"email": "is 'ops'; expected an address such as ops@example.com"}


async def test_reads_the_project_with_its_count(edge: Edge, owner: Caller) -> None:
    task = task_pb2.Task(http_target=task_pb2.HttpTarget(url="https://example.com/"))
    task.schedule.delay.CopyFrom(to_duration(3_600_000))
    await edge.tasks.Subscribe(task_service_pb2.SubscribeRequest(task=task), metadata=owner.metadata)
    project = (await get_project(edge, owner)).project
    assert (project.project_id, project.email) == (owner.project_id, "owner@example.com")
    assert project.task_in_queue == 1


async def test_a_rotated_token_ends_at_once_without_grace(edge: Edge, owner: Caller) -> None:
    response = await edge.projects.RotateToken(pb.RotateTokenRequest(), metadata=owner.metadata)
    answer = await get_project(edge, Caller(owner.project_id, response.token))
    assert answer.project.project_id == owner.project_id
    refused = await refusal(edge.projects.GetProject(pb.GetProjectRequest(), metadata=owner.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_rotated_token_stays_valid_through_its_grace(edge: Edge, owner: Caller) -> None:
    request = pb.RotateTokenRequest(grace=to_duration(3_600_000))
    response = await edge.projects.RotateToken(request, metadata=owner.metadata)
    for token in (owner.token, response.token):
        answer = await get_project(edge, Caller(owner.project_id, token))
        assert answer.project.project_id == owner.project_id
    created = (await get_project(edge, owner)).project.create_time.ToMilliseconds()
    assert response.old_token_expire_time.ToMilliseconds() >= created + 3_600_000


async def test_a_signing_secret_is_rotated_with_a_day_of_grace(edge: Edge, owner: Caller) -> None:
    response = await edge.projects.RotateSigningSecret(
        pb.RotateSigningSecretRequest(), metadata=owner.metadata
    )
    assert response.signing_secret.startswith("whsec_")
    created = (await get_project(edge, owner)).project.create_time.ToMilliseconds()
    assert response.old_signing_secret_expire_time.ToMilliseconds() >= created + 86_400_000


async def test_when_a_signing_secret_ends_is_of_the_stores_clock(edge: Edge, owner: Caller) -> None:
    edge.engine.clock.now_ms = lambda: 1_000  # type: ignore[method-assign]

    response = await edge.projects.RotateSigningSecret(
        pb.RotateSigningSecretRequest(), metadata=owner.metadata
    )

    created = (await get_project(edge, owner)).project.create_time.ToMilliseconds()
    assert response.old_signing_secret_expire_time.ToMilliseconds() >= created + 86_400_000


async def test_refuses_a_grace_time_outside_its_limits(edge: Edge, owner: Caller) -> None:
    grace = to_duration(31 * 86_400_000)
    for call in (
        edge.projects.RotateToken(pb.RotateTokenRequest(grace=grace), metadata=owner.metadata),
        edge.projects.RotateSigningSecret(
            pb.RotateSigningSecretRequest(grace=grace), metadata=owner.metadata
        ),
    ):
        refused = await refusal(call)
        assert refused.fields == {"grace": "is 2,678,400,000 ms; expected 0 to 30 days"}


async def test_a_deleted_project_is_gone_with_its_tokens(edge: Edge, owner: Caller, stranger: Caller) -> None:
    task = task_pb2.Task(http_target=task_pb2.HttpTarget(url="https://example.com/"))
    await edge.tasks.Subscribe(task_service_pb2.SubscribeRequest(task=task), metadata=owner.metadata)
    await edge.claim(owner.project_id)  # and its attempt is in flight

    await edge.projects.DeleteProject(pb.DeleteProjectRequest(), metadata=owner.metadata)

    for method in ("DeleteProject", "GetProject"):
        refused = await call_raw(edge, f"{API_PREFIX}ProjectService/{method}", owner.metadata)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        assert refused.text == "the token is not valid: it was revoked, or its project was deleted"
    assert (await get_project(edge, stranger)).project.project_id == stranger.project_id
    again = await edge.register("OWNER@example.com")
    assert again.project_id != owner.project_id


async def test_a_watch_ends_with_the_token_that_opened_it(edge: Edge, owner: Caller) -> None:
    reader = await create_token(edge, owner, TokenScope.TOKEN_SCOPE_READ)
    request = task_service_pb2.WatchRequest(all=True)
    watch = aiter(edge.tasks.Watch(request, metadata=reader.metadata))
    assert (await anext(watch)).HasField("synced")

    await edge.projects.RevokeToken(
        pb.RevokeTokenRequest(key_id=reader.token.split("_")[1]), metadata=owner.metadata
    )

    refused = await refusal(watch)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def create_token(edge: Edge, owner: Caller, scope: TokenScope.ValueType) -> Caller:
    request = pb.CreateTokenRequest(scope=scope)
    made = await edge.projects.CreateToken(request, metadata=owner.metadata)
    assert made.access_token.scope == scope
    assert made.access_token.key_id == made.token.split("_")[1]
    return Caller(owner.project_id, made.token)


class TestAdminToken:
    ADMIN = "an-admin-token-of-this-server"

    @pytest.fixture
    async def closed(self, store_url: str) -> AsyncIterator[Edge]:
        """A server that registers for those alone who have its admin token."""
        async with serving(store_url, admin_token=self.ADMIN) as edge:
            yield edge

    async def test_registers(self, closed: Edge) -> None:
        admin = Caller("", self.ADMIN)
        made = await closed.projects.Register(
            pb.RegisterRequest(email="ops@example.com"), metadata=admin.metadata
        )
        owner = Caller(made.project.project_id, made.token)
        assert (await get_project(closed, owner)).project.email == "ops@example.com"

    async def test_without_it_nobody_does(self, closed: Edge) -> None:
        refused = await refusal(closed.projects.Register(pb.RegisterRequest(email="ops@example.com")))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
        assert refused.text.startswith("this server takes Register from those alone who have its admin token")

    @pytest.mark.parametrize("token", ["wrong", "kq_" + "a" * 73, ADMIN[:-1], ADMIN + "x"])
    async def test_with_another_one_nobody_does(self, closed: Edge, token: str) -> None:
        request = pb.RegisterRequest(email="ops@example.com")
        refused = await refusal(closed.projects.Register(request, metadata=Caller("", token).metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
        assert refused.text == "this is not the admin token of this server, which Register needs"

    async def test_is_compared_in_constant_time(self, closed: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[int, int]] = []
        compare = hmac.compare_digest

        def noting(kept: bytes, given: bytes) -> bool:
            compared.append((len(kept), len(given)))
            return compare(kept, given)

        monkeypatch.setattr(hmac, "compare_digest", noting)
        request = pb.RegisterRequest(email="ops@example.com")
        for token in ("x", self.ADMIN + "x"):
            await refusal(closed.projects.Register(request, metadata=Caller("", token).metadata))
        assert compared == [(32, 32)] * 2

    async def test_opens_no_project(self, closed: Edge) -> None:
        admin = Caller("", self.ADMIN)
        refused = await refusal(closed.projects.GetProject(pb.GetProjectRequest(), metadata=admin.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


METHODS = [
    f"/{service.full_name}/{method.name}"
    for module in (task_service_pb2, pb, server_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


async def call_raw(edge: Edge, method: str, metadata: tuple[tuple[str, str], ...] = ()) -> Refusal:
    """Call a method with an empty message, whatever its type, streaming or not; it must be refused."""
    call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = edge.channel.unary_stream(method)
    return await refusal(aiter(call(b"", metadata=metadata)))


def test_the_list_of_methods_is_whole() -> None:
    assert {method.split("/")[1] for method in METHODS} == set(SERVICES)
    assert {method.removeprefix(API_PREFIX) for method in METHODS} == {*SCOPES, *OPERATOR_CALLS, *OPEN_CALLS}


PROTECTED = sorted(set(METHODS) - {f"{API_PREFIX}{name}" for name in OPERATOR_CALLS | OPEN_CALLS})
#: What a token of each scope may call, written out.
ALLOWED = {
    "SUBSCRIBE": {"Subscribe", "BatchSubscribe"},
    "READ": {"GetTask", "ListTasks", "GetTimeline", "Watch", "GetProject"},
}


@pytest.mark.parametrize("method", PROTECTED)
@pytest.mark.parametrize("scope", ALLOWED)
async def test_a_token_opens_what_its_scope_says(edge: Edge, owner: Caller, scope: str, method: str) -> None:
    narrow = await create_token(edge, owner, TokenScope.Value(f"TOKEN_SCOPE_{scope}"))
    name = method.rpartition("/")[2]
    needed = next((one for one, methods in ALLOWED.items() if name in methods), "FULL")

    if needed == scope:
        if name == "GetProject":
            assert (await get_project(edge, narrow)).project.project_id == owner.project_id
        elif name == "ListTasks":
            await edge.tasks.ListTasks(task_service_pb2.ListTasksRequest(), metadata=narrow.metadata)
        else:
            # An empty request: it was looked at.
            assert (await call_raw(edge, method, narrow.metadata)).code is grpc.StatusCode.INVALID_ARGUMENT
        return
    refused = await call_raw(edge, method, narrow.metadata)
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, f"SCOPE_{needed}_NEEDED")
    assert refused.details["ErrorInfo"].metadata == {"scope": scope, "scope_needed": needed}


async def test_what_came_of_a_scope_is_listed(edge: Edge, owner: Caller) -> None:
    request = pb.CreateTokenRequest(
        scope=TokenScope.TOKEN_SCOPE_SUBSCRIBE, display_name="shop", ttl=to_duration(3_600_000)
    )
    made = await edge.projects.CreateToken(request, metadata=owner.metadata)

    listed = await edge.projects.ListTokens(pb.ListTokensRequest(), metadata=owner.metadata)

    first, second = listed.access_tokens
    assert (first.scope, first.HasField("expire_time")) == (TokenScope.TOKEN_SCOPE_FULL, False)
    assert second == made.access_token
    assert second.display_name == "shop"
    lifetime = second.expire_time.ToMilliseconds() - second.create_time.ToMilliseconds()
    assert lifetime == 3_600_000
    for secret in (owner.token, made.token):
        assert secret.split("_")[2] not in str(listed)


async def test_says_all_that_is_wrong_with_a_token_to_make(edge: Edge, owner: Caller) -> None:
    request = pb.CreateTokenRequest(display_name="x" * 65, ttl=to_duration(1))
    refused = await refusal(edge.projects.CreateToken(request, metadata=owner.metadata))
    assert refused.fields == {
        "scope": "is required; expected one of FULL, SUBSCRIBE, READ",
        "display_name": "has 65 characters; at most 64 are allowed",
        "ttl": "is 1 ms; expected 1 second to 3,650 days",
    }


async def test_a_whole_token_is_no_key_id_and_is_not_shown(edge: Edge, owner: Caller) -> None:
    refused = await refusal(
        edge.projects.RevokeToken(pb.RevokeTokenRequest(key_id=owner.token), metadata=owner.metadata)
    )
    assert refused.fields == {
        "key_id": "is a token; expected its key id, the part between the first two _ of it"
    }
    assert owner.token not in str(refused)


async def test_a_rotation_is_repeated_after_its_answer_was_lost(edge: Edge, owner: Caller) -> None:
    request = pb.RotateTokenRequest(request_id="0123456789abcdef")
    lost = await edge.projects.RotateToken(request, metadata=owner.metadata)
    refused = await refusal(edge.projects.GetProject(pb.GetProjectRequest(), metadata=owner.metadata))
    assert refused.reason == "TOKEN_INVALID"

    again = await edge.projects.RotateToken(request, metadata=owner.metadata)

    assert (await get_project(edge, Caller(owner.project_id, again.token))).project.email
    for token in (lost.token, owner.token):
        bad = Caller(owner.project_id, token)
        refused = await refusal(edge.projects.GetProject(pb.GetProjectRequest(), metadata=bad.metadata))
        assert refused.reason == "TOKEN_INVALID"
    refused = await refusal(edge.projects.RotateToken(pb.RotateTokenRequest(), metadata=owner.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def test_a_request_id_of_a_rotation_must_be_hard_to_guess(edge: Edge, owner: Caller) -> None:
    request = pb.RotateTokenRequest(request_id="1")
    refused = await refusal(edge.projects.RotateToken(request, metadata=owner.metadata))
    assert list(refused.fields) == ["request_id"]
    assert (await get_project(edge, owner)).project.email


@pytest.mark.parametrize("method", PROTECTED)
async def test_every_method_but_register_needs_a_token(edge: Edge, method: str) -> None:
    refused = await call_raw(edge, method)
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert refused.text == (
        "no credentials came; expected the metadata `authorization: Bearer <token>`, "
        "with the token that Register gave"
    )


async def test_credentials_come_before_the_request(edge: Edge) -> None:
    refused = await call_raw(edge, "/kuueri.tasks.v1.TaskService/Subscribe")
    assert "BadRequest" not in refused.details


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("a" if token[-1] != "a" else "b"),
        lambda token: token.replace("kq_", "kx_"),
        lambda token: token[:-10],
        lambda _: "hunter2",
        lambda _: "kq_" + "a" * 20 + "_" + "b" * 43 + "_cccccc",
    ],
    ids=["checksum", "prefix", "cut", "word", "made up"],
)
async def test_refuses_a_token_that_is_not_one(
    edge: Edge, owner: Caller, change: Callable[[str], str]
) -> None:
    bad = Caller(owner.project_id, change(owner.token))
    refused = await refusal(edge.projects.GetProject(pb.GetProjectRequest(), metadata=bad.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    assert bad.token not in refused.text


async def test_refuses_other_schemes(edge: Edge, owner: Caller) -> None:
    metadata = (("authorization", f"Basic {owner.token}"),)
    refused = await refusal(edge.projects.GetProject(pb.GetProjectRequest(), metadata=metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    assert owner.token not in refused.text


async def test_concurrent_calls_keep_their_callers_apart(edge: Edge, owner: Caller, stranger: Caller) -> None:
    callers = [owner, stranger] * 25
    answers = await asyncio.gather(*(get_project(edge, caller) for caller in callers))
    assert [answer.project.project_id for answer in answers] == [caller.project_id for caller in callers]
