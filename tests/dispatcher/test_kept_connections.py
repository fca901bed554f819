"""A kept connection that the target has closed costs no attempt: the request goes out again, on a new one."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher, transport
from kuueri_grpc.dispatcher.connector import KEEPALIVE_S
from kuueri_grpc.dispatcher.exchange import Exchange
from kuueri_grpc.domain.task import HttpMethod
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import NotStarted
from tests.dispatcher.proxies import proxying
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import Connection, Handler, Target, answer, answering, serving

TRIED_TWICE = "tried twice: a kept connection had been closed by the target"


@pytest.fixture(autouse=True)
def unseen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the end of an idle connection, as if it came right after the look for it."""
    if "looking" not in request.fixturenames:
        monkeypatch.setattr(Exchange, "has_ended", lambda _: False)


@pytest.fixture
def looking() -> None:
    """Look for the end of idle connections after all."""


def once(last: bytes | None = b"", *, reset: bool = False) -> Handler:
    """Answer the first request of each connection; take a second, say this, and close or reset.

    `last` None: the second request is answered as the first was.
    """

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(answer())
        await connection.read_request()
        if last is None:
            await connection.send(answer())
            await connection.wait_lost()
        await connection.send(last or b"")
        if reset:
            connection.writer.transport.abort()

    return handle


async def first_and_second(
    dispatcher: HttpDispatcher, url: str, method: HttpMethod = HttpMethod.POST
) -> tuple[str, object, int]:
    """Send two requests; return detail, reason and status of the second."""
    body = b"" if method is HttpMethod.GET else b"{}"
    assert (await dispatcher.send(delivery(url, method=method, body=body))).succeeded
    outcome = await dispatcher.send(delivery(url, method=method, body=body))
    return outcome.detail, outcome.reason, outcome.status_code or 0


@pytest.mark.parametrize("method", [HttpMethod.POST, HttpMethod.PUT, HttpMethod.GET])
@pytest.mark.parametrize("reset", [False, True])
async def test_the_request_is_sent_again_on_a_new_connection(
    dispatcher: HttpDispatcher, method: HttpMethod, *, reset: bool
) -> None:
    async with serving(once(reset=reset)) as target:
        assert await first_and_second(dispatcher, target.url(), method) == (TRIED_TWICE, None, 200)

    first, second = target.received[1:]
    assert (first.method, first.headers, first.body) == (second.method, second.headers, second.body)
    assert second.headers["x-kuueri-tasks-attempt"] == "1"
    assert target.connections == 2


async def test_over_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async with (
        dispatching(LOOPBACK, tls=client_tls) as dispatcher,
        serving(once(), tls=server_tls) as target,
    ):
        url = target.url(host="localhost", scheme="https")
        assert await first_and_second(dispatcher, url) == (TRIED_TWICE, None, 200)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_through_a_proxy(scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    tls = server_tls if scheme == "https" else None
    async with (
        proxying() as proxy,
        dispatching(LOOPBACK, tls=client_tls, proxy=proxy.way()) as dispatcher,
        serving(once(), tls=tls) as target,
    ):
        url = target.url(host="localhost", scheme=scheme)
        assert await first_and_second(dispatcher, url) == (TRIED_TWICE, None, 200)
        ways = [asked for asked in proxy.asked if "127.0.0.1" in asked]
        assert len(ways) == 2


async def test_signed_requests_keep_their_ids(dispatcher: HttpDispatcher) -> None:
    secrets = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",)
    async with serving(once()) as target:
        for _ in range(2):
            attempt = delivery(target.url())
            object.__setattr__(attempt, "signing_secrets", secrets)
            assert (await dispatcher.send(attempt)).succeeded

    _, first, second = target.received
    signatures = [
        {name: value for name, value in request.headers.items() if name.startswith("webhook-")}
        for request in (first, second)
    ]
    assert len(signatures[0]) == 3
    assert signatures[0] == signatures[1]


async def test_the_second_time_counts_also_where_it_is_an_error(dispatcher: HttpDispatcher) -> None:
    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(answer() if target.connections == 1 else answer("503 Busy"))
        await connection.read_request()

    async with serving(handle) as target:
        second = await first_and_second(dispatcher, target.url())

    assert second == (TRIED_TWICE, Reason.HTTP_STATUS, 503)


async def test_it_is_sent_twice_at_the_most(dispatcher: HttpDispatcher) -> None:
    async def handle(connection: Connection) -> None:
        await connection.read_request()
        if target.connections == 1:
            await connection.send(answer())
            await connection.read_request()

    async with serving(handle) as target:
        detail, reason, _ = await first_and_second(dispatcher, target.url())

    assert (detail, reason) == (TRIED_TWICE, Reason.CONNECTION_LOST)
    assert len(target.received) == 3
    assert target.connections == 2


@pytest.mark.parametrize("last", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_not_where_an_answer_had_begun(dispatcher: HttpDispatcher, last: bytes) -> None:
    async with serving(once(last)) as target:
        detail, reason, _ = await first_and_second(dispatcher, target.url())

    assert (detail, reason) == ("", Reason.CONNECTION_LOST)
    assert len(target.received) == 2


async def test_not_on_the_first_use_of_a_connection(dispatcher: HttpDispatcher) -> None:
    async def close(connection: Connection) -> None:
        await connection.read_request()

    async with serving(close) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.reason, outcome.detail) == (Reason.CONNECTION_LOST, "")
    assert len(target.received) == 1


async def test_not_where_the_lease_has_run_out_meanwhile(dispatcher: HttpDispatcher) -> None:
    may = [True, True, False]
    async with serving(once()) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        with pytest.raises(NotStarted):
            await dispatcher.send(delivery(target.url()), lambda: may.pop(0))

    assert not may
    assert len(target.received) == 2


async def test_within_the_time_of_the_attempt(dispatcher: HttpDispatcher) -> None:
    async def handle(connection: Connection) -> None:
        await connection.read_request()
        if target.connections > 1:
            await connection.wait_lost()
        await connection.send(answer())
        await connection.read_request()

    async with serving(handle) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        outcome = await dispatcher.send(delivery(target.url(), timeout_ms=500))

    assert (outcome.reason, outcome.detail) == (Reason.TIMEOUT, TRIED_TWICE)
    assert outcome.latency_ms >= 499


async def test_a_cancelled_attempt_is_not_sent_again(dispatcher: HttpDispatcher) -> None:
    read = asyncio.Event()

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(answer())
        await connection.read_request()
        read.set()
        await connection.wait_lost()

    async with serving(handle) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        attempt = asyncio.create_task(dispatcher.send(delivery(target.url())))
        await read.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt

    assert len(target.received) == 2


@asynccontextmanager
async def closing_after_answers(delay_s: float) -> AsyncIterator[Target]:
    """Answer, and close the connection a little later without a word of it."""

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(answer())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await connection.reader.readexactly(1)

    async with serving(handle) as target:
        yield target


@pytest.mark.usefixtures("looking")
async def test_a_target_that_closes_a_little_after_each_answer_costs_no_attempt(
    dispatcher: HttpDispatcher,
) -> None:
    async with closing_after_answers(0.003) as target:

        async def send(number: int) -> bool:
            await asyncio.sleep(number * 0.002)
            return (await dispatcher.send(delivery(target.url()))).succeeded

        assert all(await asyncio.gather(*(send(number) for number in range(200))))


async def test_a_connection_that_has_ended_is_not_used(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_FRESH_S", 0.0)
    monkeypatch.setattr(Exchange, "has_ended", lambda _: True)
    async with serving(answering(answer())) as target:
        assert await first_and_second(dispatcher, target.url()) == ("", None, 200)

    assert target.connections == 2
    assert len(target.received) == 2


@pytest.mark.usefixtures("looking")
def test_what_the_kernel_knows_of_a_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exchange = Exchange.__new__(Exchange)
        exchange._poll = None
        exchange._transport = SimpleNamespace(get_extra_info=lambda _: ours)  # type: ignore[assignment]
        assert not exchange.has_ended()
        theirs.shutdown(socket.SHUT_WR)
        assert exchange.has_ended()


@pytest.mark.parametrize(
    ("header", "is_reused"),
    [
        ("timeout=5", True),
        ("timeout=5, max=99", True),
        ("max=99, Timeout = 60", True),
        ("timeout=1", False),
        ("timeout=0", False),
        ("timeout=x", True),
    ],
)
async def test_a_connection_is_kept_for_less_than_the_target_keeps_it(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch, header: str, *, is_reused: bool
) -> None:
    async with serving(answering(answer(keep_alive=header))) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        loop = dispatcher._transport._loop
        later = time.monotonic() + 0.9
        monkeypatch.setattr(dispatcher._transport, "_loop", SimpleNamespace(time=lambda: later + 0.0))
        (idle,) = dispatcher._transport._idle.values()
        assert (idle[0].idle_until > later) is is_reused
        monkeypatch.setattr(dispatcher._transport, "_loop", loop)


async def test_what_one_answer_says_of_keeping_is_not_of_the_next(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer(keep_alive="timeout=2"), answer())) as target:
        for _ in range(2):
            assert (await dispatcher.send(delivery(target.url()))).succeeded
        (idle,) = dispatcher._transport._idle.values()
        assert idle[0].idle_until > dispatcher._transport._loop.time() + KEEPALIVE_S / 2


@pytest.mark.parametrize("scheme", ["NTLM TlRMTVNTUA==", "Negotiate YII=", "negotiate", "NTLM"])
async def test_a_connection_that_a_request_authenticates_is_not_shared(
    dispatcher: HttpDispatcher, scheme: str
) -> None:
    async with serving(answering(answer())) as target:
        headers = {"Authorization": scheme}
        for _ in range(2):
            assert (await dispatcher.send(delivery(target.url(), headers=headers))).succeeded
            assert (await dispatcher.send(delivery(target.url()))).succeeded

    # The first of each pair may come by a connection that was kept, and leaves none.
    assert target.connections == 3


@pytest.mark.parametrize("scheme", ["Basic dXNlcjpwYXNz", "Bearer negotiated", "Bearer NTLMv2"])
async def test_other_credentials_are_of_a_request(dispatcher: HttpDispatcher, scheme: str) -> None:
    async with serving(answering(answer())) as target:
        for _ in range(2):
            await dispatcher.send(delivery(target.url(), headers={"Authorization": scheme}))

    assert target.connections == 1


@pytest.mark.parametrize("challenge", ["NTLM", "Negotiate", 'Basic realm="x", Negotiate'])
async def test_a_connection_that_an_answer_wants_authenticated_is_not_shared(
    dispatcher: HttpDispatcher, challenge: str
) -> None:
    async with serving(answering(answer("401 Unauthorized", www_authenticate=challenge))) as target:
        for _ in range(2):
            assert (await dispatcher.send(delivery(target.url()))).status_code == 401

    assert target.connections == 2
