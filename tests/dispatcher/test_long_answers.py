"""An answer is read to its end, however long it takes within the attempt's time: a success is a whole one."""

import asyncio
import ssl

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher
from kuueri_grpc.dispatcher.read_queue import ReadQueue
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import Connection, Handler, answer, answering, serving

SIZE = 3_000_000
PIECE = b"x" * 10_000
CLOSES = b"HTTP/1.1 200 OK\r\n\r\n"
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(head: bytes, size: int, last: bytes = b"") -> Handler:
    """Answer with a body of that size in pieces; without `last`, close after it."""

    async def handle(connection: Connection) -> None:
        while True:
            await connection.read_request()
            await connection.send(head)
            for _ in range(size // len(PIECE)):
                await connection.send(chunk(PIECE) if head is CHUNKED else PIECE)
            if not last:
                return
            await connection.send(last)

    return handle


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("head", "last", "is_kept"),
    [(SIZED, b"", False), (SIZED, PIECE, True), (CHUNKED, chunk(b""), True), (CLOSES, b"", False)],
    ids=["length, closes", "length", "chunked", "to the end"],
)
async def test_a_long_answer_is_read_to_its_end(
    head: bytes,
    last: bytes,
    is_kept: bool,
    scheme: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    size = SIZE - len(PIECE) if last == PIECE else SIZE
    tls = server_tls if scheme == "https" else None
    async with (
        dispatching(LOOPBACK, tls=client_tls) as dispatcher,
        serving(streaming(head, size, last), tls=tls) as target,
    ):
        outcomes = [
            await dispatcher.send(delivery(target.url(host="localhost", scheme=scheme))) for _ in range(3)
        ]

    assert [(outcome.status_code, outcome.reason) for outcome in outcomes] == [(200, None)] * 3
    assert target.connections == (1 if is_kept else 3)


@pytest.mark.parametrize(
    ("head", "size"), [(SIZED, SIZE - len(PIECE)), (CHUNKED, SIZE)], ids=["length", "chunked"]
)
async def test_one_that_breaks_off_late_is_no_success(
    dispatcher: HttpDispatcher, head: bytes, size: int
) -> None:
    async with serving(streaming(head, size)) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_LOST)
    assert outcome.detail == "the answer had begun with status 200"
    assert len(target.received) == 1, "it was not sent again: an answer had begun"


async def test_a_job_that_writes_as_it_goes_is_not_cut_off(dispatcher: HttpDispatcher) -> None:
    ended = asyncio.Event()

    async def work(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(CHUNKED)
        for _ in range(20_000):  # beyond 64 KiB of body, and of framing
            connection.writer.write(chunk(b"done\n"))
            await connection.writer.drain()
        ended.set()
        await connection.send(chunk(b""))

    async with serving(work) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert outcome.succeeded
    assert ended.is_set()


async def test_bytes_after_a_long_answer_are_not_taken_for_the_next_one(dispatcher: HttpDispatcher) -> None:
    two = answer(body=b"x" * SIZE) + answer("500 Not Asked For")
    async with serving(answering(two)) as target:
        outcomes = [await dispatcher.send(delivery(target.url())) for _ in range(2)]

    assert [outcome.succeeded for outcome in outcomes] == [True, True]
    assert target.connections == 2


async def test_a_body_up_to_the_limit_is_whole_and_one_byte_more_is_not() -> None:
    async with dispatching(LOOPBACK, max_answer_bytes=100_000) as dispatcher:
        async with serving(answering(answer(body=b"x" * 100_000))) as target:
            for _ in range(3):
                assert (await dispatcher.send(delivery(target.url()))).succeeded
            assert target.connections == 1
        async with serving(answering(answer(body=b"x" * 100_001))) as target:
            outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_LOST)
    assert "more than 100,000 bytes" in outcome.detail


async def test_the_deadline_holds_where_a_long_answer_waits_for_its_turn() -> None:
    closed = asyncio.Event()

    async def endless(connection: Connection) -> None:
        try:
            await connection.read_request()
            await connection.send(CHUNKED)
            while True:
                await connection.send(chunk(PIECE))
        except OSError:
            closed.set()
            raise

    async with dispatching(LOOPBACK, max_answer_bytes=1 << 40) as dispatcher, serving(endless) as target:
        outcome = await dispatcher.send(delivery(target.url(), timeout_ms=100))
        await closed.wait()

    assert (outcome.status_code, outcome.reason) == (None, Reason.TIMEOUT)


async def test_many_long_answers_at_once_all_end_and_others_come_between(dispatcher: HttpDispatcher) -> None:
    flooding = asyncio.Semaphore(0)

    async def flood(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(SIZED)
        flooding.release()
        for _ in range(SIZE // len(PIECE)):
            await connection.send(PIECE)

    async with serving(flood) as target, serving(answering(answer())) as other:
        floods = [asyncio.create_task(dispatcher.send(delivery(target.url()))) for _ in range(30)]
        for _ in floods:
            await flooding.acquire()
        for _ in range(20):
            assert (await dispatcher.send(delivery(other.url()))).succeeded
        assert all(outcome.succeeded for outcome in await asyncio.gather(*floods))


class Reading(asyncio.Transport):
    """A transport that knows whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True
        self.closing = False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reads = True

    def is_closing(self) -> bool:
        return self.closing


async def test_one_of_those_that_wait_reads_on_in_an_iteration_of_the_event_loop() -> None:
    queue = ReadQueue()
    transports = [Reading() for _ in range(5)]
    for transport in transports:
        queue.wait_turn(transport)
    transports[1].closing = True

    reading = []
    for _ in range(5):
        reading.append([transport.reads for transport in transports].count(True))
        await asyncio.sleep(0)
    assert reading == [0, 1, 1, 2, 3]
    await asyncio.sleep(0)
    assert [transport.reads for transport in transports] == [True, False, True, True, True]
    assert not len(queue)
