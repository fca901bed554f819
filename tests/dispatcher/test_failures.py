"""Each reason for which an attempt fails, brought about on a real connection."""

import asyncio
import errno
import socket
from types import SimpleNamespace

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher, connector
from kuueri_grpc.domain.task import HttpMethod
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import Connection, Handler, answer, answering, serving
from tests.dispatcher.test_guarding import Zone

NO_STATUSES = (b"000", b"001", b"099", b"600", b"777", b"999")


def saying(response: bytes) -> Handler:
    """Read a request, say this, and close."""

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(response)

    return handle


def holding(response: bytes, done: asyncio.Event) -> Handler:
    """Read a request, say this, and hold the connection until the peer has closed it."""

    async def handle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(response)
        await connection.wait_lost()
        done.set()

    return handle


async def test_refused_connection(dispatcher: HttpDispatcher) -> None:
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        outcome = await dispatcher.send(delivery(f"http://127.0.0.1:{bound.getsockname()[1]}/"))

    assert (outcome.status_code, outcome.reason, outcome.detail) == (None, Reason.CONNECTION_REFUSED, "")


async def test_refused_connection_to_a_name_with_two_addresses() -> None:
    zone = Zone(["127.0.0.1", "127.0.0.2"])
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))  # noqa: S104  it does not listen
        async with dispatching(LOOPBACK, resolver=zone) as dispatcher:
            outcome = await dispatcher.send(delivery(f"http://two.example:{bound.getsockname()[1]}/"))

    assert outcome.reason is Reason.CONNECTION_REFUSED


async def test_unreachable_address() -> None:
    # A broadcast address: the kernel refuses to dial it over TCP, without a packet being sent.
    async with dispatching("255.255.255.255/32") as dispatcher:
        outcome = await dispatcher.send(delivery("http://255.255.255.255/"))

    assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_FAILED)
    assert outcome.detail in errno.errorcode.values()


@pytest.mark.parametrize("method", [HttpMethod.POST, HttpMethod.PUT, HttpMethod.GET])
async def test_closed_before_an_answer_and_not_sent_again(
    dispatcher: HttpDispatcher, method: HttpMethod
) -> None:
    body = b"" if method is HttpMethod.GET else b"{}"
    async with serving(saying(b"")) as target:
        outcome = await dispatcher.send(delivery(target.url(), method=method, body=body))

    assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_LOST)
    assert len(target.received) == 1


async def test_reset_before_an_answer(dispatcher: HttpDispatcher) -> None:
    async def reset(connection: Connection) -> None:
        await connection.read_head()  # a body that is not read makes the close a reset
        connection.writer.transport.abort()

    async with serving(reset) as target:
        outcome = await dispatcher.send(delivery(target.url(), body=b"x" * 500_000))

    assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_LOST)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ],
    ids=["length", "chunked"],
)
async def test_an_answer_that_breaks_off_is_no_success(dispatcher: HttpDispatcher, response: bytes) -> None:
    async with serving(saying(response)) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_LOST)
    assert outcome.detail == "the answer had begun with status 200"


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        *(b"HTTP/1.1 %b X\r\ncontent-length: 0\r\n\r\n" % status for status in NO_STATUSES),
    ],
    ids=[
        *("other protocol", "no status", "bad header", "bad length", "endless header", "tls alert"),
        *map(bytes.decode, NO_STATUSES),
    ],
)
async def test_not_http(dispatcher: HttpDispatcher, response: bytes) -> None:
    async with serving(saying(response)) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.reason, outcome.detail) == (None, Reason.INVALID_RESPONSE, "")


async def test_a_malformed_chunk_is_an_invalid_answer(dispatcher: HttpDispatcher) -> None:
    response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n"
    async with serving(saying(response)) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert outcome.reason is Reason.INVALID_RESPONSE


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (b"", ""),
        (b"HTTP/1.1 200", ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "the answer had begun with status 200"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\nhalf", "the answer had begun with status 500"),
    ],
    ids=["no answer", "half a head", "half a body", "half an error"],
)
async def test_the_deadline_covers_the_whole_answer_and_closes_the_connection(
    dispatcher: HttpDispatcher, response: bytes, detail: str
) -> None:
    closed = asyncio.Event()
    async with serving(holding(response, closed)) as target:
        # Enough for the answer to begin, also on a busy machine.
        outcome = await dispatcher.send(delivery(target.url(), timeout_ms=1_000))
        await closed.wait()

    assert (outcome.status_code, outcome.reason, outcome.detail) == (None, Reason.TIMEOUT, detail)
    assert outcome.latency_ms >= 999


async def test_the_deadline_ends_a_body_that_drips(dispatcher: HttpDispatcher) -> None:
    closed = asyncio.Event()

    async def drip(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        lost = asyncio.ensure_future(connection.wait_lost())
        try:
            while not lost.done():
                await connection.send(b"x")
                await asyncio.wait([lost], timeout=0.005)
        finally:
            await lost
            closed.set()

    async with serving(drip) as target:
        outcome = await dispatcher.send(delivery(target.url(), timeout_ms=1_000))
        await closed.wait()

    assert (outcome.status_code, outcome.reason) == (None, Reason.TIMEOUT)


async def test_the_deadline_covers_a_request_that_is_not_read(dispatcher: HttpDispatcher) -> None:
    async def stall(connection: Connection) -> None:
        await connection.read_head()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with serving(stall) as target:
        outcome = await dispatcher.send(delivery(target.url(), timeout_ms=200, body=b"x" * 20_000_000))

    assert (outcome.status_code, outcome.reason) == (None, Reason.TIMEOUT)


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kernel take little at a time, so that what is not sent yet stays in the process."""

    def open_socket(*args: int) -> socket.socket:
        opened = socket.socket(*args)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        return opened

    monkeypatch.setattr(connector, "socket", SimpleNamespace(socket=open_socket))


@pytest.mark.usefixtures("small_buffers")
async def test_an_early_answer_to_a_large_body_counts_and_the_upload_is_dropped(
    dispatcher: HttpDispatcher,
) -> None:
    answered = asyncio.Event()
    rest = bytearray()
    size = 1_000_000  # small enough to be handed to the connection in one piece

    async def refuse(connection: Connection) -> None:
        await connection.read_head()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(answer("413 Too Large"))
        await answered.wait()
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        rest.extend(await connection.wait_lost())

    async with serving(refuse) as target:
        outcome = await dispatcher.send(delivery(target.url(), body=b"x" * size))
        answered.set()
        async with asyncio.timeout(30):
            while target.open_connections:
                await target.changed()

    assert (outcome.status_code, outcome.reason) == (413, Reason.HTTP_STATUS)
    assert len(rest) < size


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://☃.example/", "http://127.0.0.1:99999/", "http://0177.0.0.1", "/"]
)
async def test_a_malformed_url_is_our_fault_and_raises_nothing(
    dispatcher: HttpDispatcher, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await dispatcher.send(delivery(url))

    assert (outcome.status_code, outcome.reason) == (None, Reason.INTERNAL)
    assert "could not be sent" in caplog.text


async def test_an_unknown_error_is_logged_without_a_word_of_the_request(
    dispatcher: HttpDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "s3cret"
    async with serving(answering(answer())) as target:
        outcome = await dispatcher.send(
            delivery(
                target.url(f"/?token={secret}"),
                headers={"X-Token": f"{secret}\r\nInjected: yes"},
                body=secret.encode(),
            )
        )

    assert not target.received
    assert (outcome.reason, outcome.detail) == (Reason.INTERNAL, "ValueError")
    assert "ValueError at " in caplog.text
    assert secret not in caplog.text


async def test_a_closed_dispatcher_fails_attempts_and_raises_nothing() -> None:
    async with dispatching(LOOPBACK) as dispatcher:
        pass
    outcome = await dispatcher.send(delivery("http://127.0.0.1:9/"))
    assert outcome.reason is Reason.INTERNAL
