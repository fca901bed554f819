"""A cancelled attempt has closed its connection when the call has ended, and nothing more arrives."""

import asyncio
import socket
import ssl
from types import SimpleNamespace

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher, connector
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import Connection, Handler, answer, answering, serving

BODY_BYTES = 20_000_000


class Probe:
    """Takes a connection to a point, holds it there, and says what came after the peer was cancelled."""

    def __init__(self, take: Handler) -> None:
        self._take = take
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()
        self.rest = b""

    async def handle(self, connection: Connection) -> None:
        await self._take(connection)
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.reached.set()
        await self.cancelled.wait()
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        self.rest = await connection.wait_lost()
        self.closed.set()


async def cancel(dispatcher: HttpDispatcher, url: str, probe: Probe, body: bytes) -> None:
    attempt = asyncio.create_task(dispatcher.send(delivery(url, body=body)))
    await probe.reached.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    probe.cancelled.set()
    await probe.closed.wait()


async def read_head(connection: Connection) -> None:
    await connection.read_head()


async def read_all(connection: Connection) -> None:
    await connection.read_request()


async def begin_answer(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")


async def answer_early(connection: Connection) -> None:
    await connection.read_head()
    await connection.send(answer("200 OK", b"early")[:-1])


@pytest.mark.parametrize(
    ("take", "body"),
    [
        (read_head, b"x" * BODY_BYTES),
        (read_head, b"x" * 1_000_000),  # below the length from which bodies are written in pieces
        (read_all, b"{}"),
        (begin_answer, b"{}"),
        (answer_early, b"x" * BODY_BYTES),
    ],
    ids=["uploading", "uploading in one piece", "waiting", "reading the answer", "early answer"],
)
async def test_cancelling_closes_the_connection_and_discards_what_was_not_sent(
    dispatcher: HttpDispatcher, take: Handler, body: bytes
) -> None:
    probe = Probe(take)
    async with serving(probe.handle) as target:
        await cancel(dispatcher, target.url(), probe, body)

    assert len(probe.rest) < max(1, len(body) * 9 // 10)


async def test_cancelling_over_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    probe = Probe(read_head)

    async with (
        dispatching(LOOPBACK, tls=client_tls) as dispatcher,
        serving(probe.handle, tls=server_tls) as target,
    ):
        await cancel(dispatcher, target.url(host="localhost", scheme="https"), probe, b"x" * BODY_BYTES)

    assert len(probe.rest) < BODY_BYTES * 9 // 10


async def test_cancelling_before_the_tls_handshake_is_done(dispatcher: HttpDispatcher) -> None:
    async def say_nothing(connection: Connection) -> None:
        await connection.reader.read(1)

    probe = Probe(say_nothing)
    async with serving(probe.handle) as target:
        await cancel(dispatcher, target.url(scheme="https"), probe, b"secret")

    assert b"secret" not in probe.rest


async def test_the_socket_is_closed_when_the_call_has_ended(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[socket.socket] = []
    seen: list[int] = []

    def open_socket(*args: int) -> socket.socket:
        dialled.append(socket.socket(*args))
        return dialled[-1]

    async def send() -> None:
        try:
            await dispatcher.send(delivery(target.url()))
        except asyncio.CancelledError:
            seen.extend(sock.fileno() for sock in dialled)  # before the event loop does anything else
            raise

    probe = Probe(read_all)
    async with serving(probe.handle) as target:
        monkeypatch.setattr(connector, "socket", SimpleNamespace(socket=open_socket))
        attempt = asyncio.create_task(send())
        await probe.reached.wait()
        attempt.cancel()
        await asyncio.wait([attempt])
        probe.cancelled.set()
        await probe.closed.wait()

    assert seen == [-1]


async def test_the_connections_of_others_are_left_alone(dispatcher: HttpDispatcher) -> None:
    release = asyncio.Event()
    waiting = asyncio.Semaphore(0)

    async def handle(connection: Connection) -> None:
        while True:
            await connection.read_request()
            waiting.release()
            await release.wait()
            await connection.send(answer())

    async with serving(handle) as target:
        attempts = [asyncio.create_task(dispatcher.send(delivery(target.url()))) for _ in range(10)]
        for _ in attempts:
            await waiting.acquire()
        for attempt in attempts[::2]:
            attempt.cancel()
        await asyncio.wait(attempts[::2])
        release.set()
        outcomes = await asyncio.gather(*attempts[1::2])
        again = await dispatcher.send(delivery(target.url()))

    assert all(attempt.cancelled() for attempt in attempts[::2])
    assert all(outcome.succeeded for outcome in outcomes)
    assert again.succeeded
    assert target.connections == 10


async def test_an_attempt_that_waits_for_a_slot_can_be_cancelled() -> None:
    probe = Probe(read_all)
    async with dispatching(LOOPBACK, max_per_host=1) as dispatcher, serving(probe.handle) as target:
        holder = asyncio.create_task(dispatcher.send(delivery(target.url())))
        await probe.reached.wait()
        waiter = asyncio.create_task(dispatcher.send(delivery(target.url())))
        await asyncio.sleep(0)
        for attempt in (waiter, holder):
            attempt.cancel()
        await asyncio.wait([waiter, holder])
        probe.cancelled.set()
        await probe.closed.wait()

    assert waiter.cancelled()
    assert target.connections == 1


async def test_cancelling_at_any_moment_leaves_no_connection_behind() -> None:
    async with serving(answering(answer(body=b"x" * 1_000))) as target:
        async with dispatching(LOOPBACK) as dispatcher:
            for iterations in range(60):
                attempt = asyncio.create_task(dispatcher.send(delivery(target.url(), body=b"y" * 200_000)))
                for _ in range(iterations):
                    await asyncio.sleep(0)
                attempt.cancel()
                await asyncio.wait([attempt])
            outcome = await dispatcher.send(delivery(target.url()))
        while target.open_connections:
            await target.changed()

    assert outcome.succeeded
