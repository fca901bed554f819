"""Row 1: the HTTP target."""

from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qsl

import grpc
import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, connected, post, reason_name, register, state_name, types
from tests.acceptance.served import Server
from tests.acceptance.targets import Target, status
from tests.service.statuses import refusal

BODY = bytes(range(256))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_row_01_each_method_arrives_with_query_headers_and_body(
    project: Project, target: Target, method: str
) -> None:
    has_body = method in ("POST", "PUT", "PATCH")
    task = await project.subscribe(
        task_pb2.Task(
            http_target=task_pb2.HttpTarget(
                url=target.url("/hook?own=1&own=a%2Fb"),
                http_method=task_pb2.HttpMethod.Value(f"HTTP_METHOD_{method}"),
                headers={"X-Order-Id": "Ä 42", "authorization": "Basic dXNlcg=="},
                query_params={"added": "a b&c=é/?"},
                body=BODY if has_body else b"",
            )
        )
    )
    task, events = await project.ended(task.task_id)

    (exchange,) = target.at("/hook")
    assert exchange.method == method
    assert exchange.query.startswith("own=1&own=a%2Fb&added=")
    assert parse_qsl(exchange.query) == [("own", "1"), ("own", "a/b"), ("added", "a b&c=é/?")]
    assert exchange.body == (BODY if has_body else b"")
    assert exchange.headers.get("content-length") == ("256" if has_body else None)
    assert exchange.headers["x-order-id"] == "Ä 42"
    assert exchange.headers["authorization"] == "Basic dXNlcg=="
    assert exchange.headers["user-agent"] == "Kuueri-Tasks"
    assert exchange.headers["host"] == f"127.0.0.1:{target.port}"
    assert exchange.headers["content-type"] == exchange.headers["accept"] == "application/json"
    assert state_name(task) == "COMPLETED"
    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]
    assert events[2].status_code == task.last_attempt.status_code == 200


async def test_row_01_an_unset_method_is_post_and_an_empty_body_has_a_length(
    project: Project, target: Target
) -> None:
    await project.subscribe(post(target.url("/hook")))

    (exchange,) = await target.received("/hook")
    assert (exchange.method, exchange.query, exchange.body) == ("POST", "", b"")
    assert exchange.headers["content-length"] == "0"


async def test_row_01_headers_of_the_task_replace_the_defaults_whatever_their_case(
    project: Project, target: Target
) -> None:
    task = post(target.url("/hook"))
    task.http_target.headers.update({"CONTENT-type": "text/plain", "Accept": "*/*"})
    await project.subscribe(task)

    (exchange,) = await target.received("/hook")
    assert exchange.headers["content-type"] == "text/plain"
    assert exchange.headers["accept"] == "*/*"


async def test_row_01_a_user_agent_of_the_task_is_refused_and_not_dropped_in_silence(
    project: Project, target: Target
) -> None:
    task = post(target.url("/hook"))
    task.http_target.headers["user-AGENT"] = "mine"

    refused = await refusal(project.subscribe(task))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refused.fields) == ['task.http_target.headers["user-AGENT"]']


async def test_row_01_the_largest_body_arrives_whole(project: Project, target: Target) -> None:
    body = BODY * 4_096
    task = post(target.url("/hook"))
    task.http_target.body = body
    await project.subscribe(task)

    (exchange,) = await target.received("/hook")
    assert len(exchange.body) == 1_048_576
    assert exchange.body == body


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_row_01_a_body_where_there_can_be_none_is_refused(
    project: Project, target: Target, method: str
) -> None:
    task = post(target.url("/hook"))
    task.http_target.http_method = task_pb2.HttpMethod.Value(f"HTTP_METHOD_{method}")
    task.http_target.body = b"{}"

    refused = await refusal(project.subscribe(task))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(refused.fields) == ["task.http_target.body"]
    assert method in refused.fields["task.http_target.body"]


@pytest.mark.parametrize("code", [200, 204, 299])
async def test_row_01_every_2xx_is_a_success(project: Project, target: Target, code: int) -> None:
    task = await project.subscribe(post(target.script("/hook", status(code))))

    task, _ = await project.ended(task.task_id)
    assert (state_name(task), task.last_attempt.status_code) == ("COMPLETED", code)


async def test_row_01_a_redirect_is_an_error_answer_unless_the_task_follows_it(
    project: Project, target: Target
) -> None:
    url = target.script("/from", status(302, location=target.url("/to")))
    first = await project.subscribe(post(url))
    first, events = await project.ended(first.task_id)
    assert state_name(first) == "FAILED"
    assert (events[2].status_code, reason_name(events[2])) == (302, "HTTP_STATUS")
    assert target.at("/to") == []

    following = post(url)
    following.http_target.follow_redirects = True
    second = await project.subscribe(following)
    second, _ = await project.ended(second.task_id)
    assert state_name(second) == "COMPLETED"
    assert len(target.at("/from")) == 2
    assert len(target.at("/to")) == 1


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that opens no range."""
    with Server(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture
async def guarded_project(guarded_server: Server) -> AsyncIterator[Project]:
    async with connected(guarded_server.address) as channel:
        yield await register(channel)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_row_01_local_targets_are_refused_unless_allowed(guarded_project: Project, host: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await guarded_project.subscribe(post(f"http://{host}:8080/hook"))

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == (
        f"task.http_target.url has host '{host.strip('[]')}', to which no task may be sent: loopback; "
        "expected a public host, or one that the operator of this server has opened"
    )


async def test_row_01_the_way_to_a_local_target_over_a_name_is_open_where_it_is_allowed(
    project: Project, target: Target
) -> None:
    await project.subscribe(post(target.url("/hook", "localhost")))

    (exchange,) = await target.received("/hook")
    assert exchange.headers["host"] == f"localhost:{target.port}"
