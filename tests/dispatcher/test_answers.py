"""What an answer comes to, and how much of it is read."""

import asyncio
import gzip

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher
from kuueri_grpc.domain.task import HttpMethod
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import delivery
from tests.dispatcher.targets import Connection, answer, answering, serving


async def test_a_2xx_answer_is_a_success(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer("201 Created", b"made"))) as target:
        outcome = await dispatcher.send(delivery(target.url("/hook?a=1"), body=b'{"n": 1}'))

    assert outcome.succeeded
    assert (outcome.status_code, outcome.reason, outcome.detail) == (201, None, "")
    assert outcome.latency_ms >= 0
    (request,) = target.received
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=1", b'{"n": 1}')


async def test_the_target_gets_the_headers_of_the_request_and_no_others(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer())) as target:
        await dispatcher.send(delivery(target.url(), headers={"X-Own": "grüße"}))

    assert target.received[0].headers == {
        "host": f"127.0.0.1:{target.port}",
        "user-agent": "Kuueri-Tasks",
        "x-own": "grüße",
        "content-type": "application/json",
        "accept": "application/json",
        "x-kuueri-tasks-attempt": "1",
        "x-kuueri-tasks-schedule-time": "2026-01-01T00:00:00.000Z",
        "content-length": "2",
    }


@pytest.mark.parametrize("path", ["/a%2Fb/%7Euser/%41?q=a%20b+c&flag&e=%E2%82%AC", "/?x=a+b&&y", "/ü?ö=ä"])
async def test_the_urls_own_spelling_is_kept(dispatcher: HttpDispatcher, path: str) -> None:
    async with serving(answering(answer())) as target:
        await dispatcher.send(delivery(target.url(path)))

    quoted = path.replace("ü", "%C3%BC").replace("ö", "%C3%B6").replace("ä", "%C3%A4")
    assert target.received[0].path == quoted


@pytest.mark.parametrize("method", list(HttpMethod))
async def test_every_method_arrives_with_or_without_a_body(
    dispatcher: HttpDispatcher, method: HttpMethod
) -> None:
    async with serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(target.url(), method=method, body=b""))

    assert outcome.succeeded
    (request,) = target.received
    assert request.method == method
    has_length = method in {HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH}
    assert request.headers.get("content-length") == ("0" if has_length else None)


@pytest.mark.parametrize("size", [1 << 16, (1 << 20) + 1, 5_000_000])
async def test_large_bodies_arrive_whole(dispatcher: HttpDispatcher, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(target.url(), body=body))

    assert outcome.succeeded
    assert target.received[0].body == body


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Oops", "302 Found", "304 Same"])
async def test_any_other_answer_is_an_error_answer(dispatcher: HttpDispatcher, status: str) -> None:
    async with serving(answering(answer(status))) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert not outcome.succeeded
    assert (outcome.status_code, outcome.reason) == (int(status[:3]), Reason.HTTP_STATUS)


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [("120", 120_000), ("Thu, 01 Jan 2026 00:01:30 GMT", 90_000), ("soon", None)],
)
async def test_retry_after_is_read_from_error_answers(
    dispatcher: HttpDispatcher, value: str, wait_ms: int | None
) -> None:
    async with serving(answering(answer("503 Busy", retry_after=value))) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.retry_after_ms) == (503, wait_ms)


async def test_a_success_asks_for_no_patience(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer("200 OK", retry_after="120"))) as target:
        assert (await dispatcher.send(delivery(target.url()))).retry_after_ms is None


async def test_what_an_interim_answer_says_is_not_of_the_final_one(dispatcher: HttpDispatcher) -> None:
    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\nretry-after: 9\r\n\r\n")
        await connection.send(b"HTTP/1.1 503 Busy\r\n\r\nto the end")

    async with serving(handle) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.reason) == (503, Reason.HTTP_STATUS)
    assert outcome.retry_after_ms is None


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (HttpMethod.HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (HttpMethod.POST, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (HttpMethod.GET, b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (HttpMethod.POST, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (HttpMethod.POST, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ],
    ids=["head", "204", "304", "102 first", "chunked"],
)
async def test_answers_whose_end_is_not_a_length_are_complete_and_the_connection_is_kept(
    dispatcher: HttpDispatcher, method: HttpMethod, response: bytes
) -> None:
    body = b"" if method in {HttpMethod.GET, HttpMethod.HEAD} else b"{}"
    async with serving(answering(response)) as target:
        first = await dispatcher.send(delivery(target.url(), method=method, body=body))
        second = await dispatcher.send(delivery(target.url(), method=method, body=body))

    assert first.status_code == second.status_code
    assert first.status_code in {200, 204, 304}
    assert first.reason in {None, Reason.HTTP_STATUS}
    assert target.connections == 1


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (HttpMethod.HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n"),
        (HttpMethod.HEAD, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (HttpMethod.POST, b"HTTP/1.1 204 No Content\r\ncontent-length: 45\r\n\r\n"),
        (HttpMethod.GET, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 45\r\n\r\n"),
    ],
    ids=["head", "head, chunked", "204", "304"],
)
async def test_a_body_that_comes_where_there_is_none_is_not_the_next_answer(
    dispatcher: HttpDispatcher, method: HttpMethod, head: bytes
) -> None:
    body = b"" if method in {HttpMethod.GET, HttpMethod.HEAD} else b"{}"
    hidden = b"HTTP/1.1 299 Hidden\r\ncontent-length: 0\r\n\r\n"

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(head if target.connections == 1 else answer("201 Created"))
        if target.connections == 1:
            await connection.read_request()  # if there is one, it is the next task's
            await connection.send(hidden)

    async with serving(handle) as target:
        first = await dispatcher.send(delivery(target.url(), method=method, body=body))
        second = await dispatcher.send(delivery(target.url()))

    assert first.status_code in {200, 204, 304}
    assert second.status_code == 201
    assert target.connections == 2


async def test_the_first_of_two_answers_counts_and_the_connection_is_not_kept(
    dispatcher: HttpDispatcher,
) -> None:
    for first in (answer(), b"HTTP/1.1 204 No Content\r\n\r\n"):
        two = first + answer("500 Internal Server Error", retry_after="7")
        async with serving(answering(two)) as target:
            outcomes = [await dispatcher.send(delivery(target.url())) for _ in range(2)]

        assert [outcome.succeeded for outcome in outcomes] == [True, True]
        assert target.connections == 2


async def test_an_answer_without_a_length_ends_with_the_connection(dispatcher: HttpDispatcher) -> None:
    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.0 200 OK\r\n\r\nto the end")

    async with serving(handle) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded


async def test_an_upgrade_is_an_error_answer(dispatcher: HttpDispatcher) -> None:
    response = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nstrange"

    closed = asyncio.Event()

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(response)
        await connection.wait_lost()
        closed.set()

    async with serving(handle) as target:
        outcome = await dispatcher.send(delivery(target.url()))
        await closed.wait()

    assert (outcome.status_code, outcome.reason) == (101, Reason.HTTP_STATUS)


async def test_a_gzip_bomb_is_counted_as_it_comes_and_not_decoded(dispatcher: HttpDispatcher) -> None:
    bomb = gzip.compress(bytes(50_000_000), mtime=0)
    assert len(bomb) < 64 * 1_024

    async with serving(answering(answer(body=bomb, content_encoding="gzip"))) as target:
        outcome = await dispatcher.send(delivery(target.url()))
        again = await dispatcher.send(delivery(target.url()))

    assert outcome.succeeded
    assert again.succeeded
    # Decoded it would be beyond the cap, and the connection would have been closed.
    assert target.connections == 1


async def test_a_false_content_encoding_does_no_harm(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer(body=b"not gzip", content_encoding="gzip"))) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded


async def test_cookies_are_not_kept(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer(set_cookie="session=1; Path=/"))) as target:
        # A name: cookie jars do not take cookies of numeric hosts.
        await dispatcher.send(delivery(target.url(host="localhost")))
        await dispatcher.send(delivery(target.url(host="localhost")))

    assert "cookie" not in target.received[1].headers


async def test_a_head_of_many_and_long_headers_is_read(dispatcher: HttpDispatcher) -> None:
    many: dict[str, str] = {f"x-{n}": "v" for n in range(100)}
    response = answer("200 OK", b"", **many, content_security_policy="a" * 20_000)
    async with serving(answering(response)) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
