"""Targets that never stop sending: each answer is bounded in all its parts, so it ends long before its time.

What comes back is small or nothing, and a connection that brought too much is not used again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching

HOUR_MS = 3_600_000
PATIENCE_S = 30
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE_CHUNK = b"ffff\r\n%b\r\n" % (b"a" * 65_535)
LINES = b"".join(b"x-%d: %s\r\n" % (n, b"a" * 1_000) for n in range(60))
#: How the answer begins, and what follows for ever: no answer.
NO_ANSWER = {
    "headers": (b"HTTP/1.1 200 OK\r\n", LINES),
    "a header": (b"HTTP/1.1 200 OK\r\nx: ", b"a" * 65_000),
    "a reason": (b"HTTP/1.1 200 ", b"a" * 65_000),
    "empty lines": (b"", b"\r\n" * 30_000),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2_500),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1_500),
}
#: An answer that is never whole.
NOT_WHOLE = {
    "an extension of a chunk": (CHUNKED + b"1;", b"a" * 65_000),
    "trailers": (CHUNKED + b"0\r\n", LINES),
    "a trailer": (CHUNKED + b"0\r\nx: ", b"a" * 65_000),
    "a trailer after much": (CHUNKED + LARGE_CHUNK * 20 + b"0\r\nx: ", b"a" * 65_000),
}
#: And where there is more than is read of it.
TOO_LONG = {
    "a length": (b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", b"a" * 65_000),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65_000),
    "chunks": (CHUNKED, LARGE_CHUNK),
    "small chunks": (CHUNKED, b"1\r\na\r\n" * 10_000),
    "extensions of chunks": (CHUNKED, (b"1;" + b"a" * 1_000 + b"\r\na\r\n") * 60),
}
WITHOUT_END = {**NOT_WHOLE, **TOO_LONG}
LIMIT = 1_000_000


@asynccontextmanager
async def flooding(first: bytes, more: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Yield the URL of a target that sends for ever, and an event: somebody has closed its connection."""
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while True:
                writer.write(more)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            closed.set()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", closed


@pytest.mark.parametrize(("first", "more"), NO_ANSWER.values(), ids=NO_ANSWER.keys())
async def test_a_head_without_end_is_no_answer(dispatcher: HttpDispatcher, first: bytes, more: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S), flooding(first, more) as (url, closed):
        outcome = await dispatcher.send(delivery(url, timeout_ms=HOUR_MS))
        assert (outcome.status_code, outcome.reason) == (None, Reason.INVALID_RESPONSE)
        await closed.wait()


@pytest.mark.parametrize(("first", "more"), NOT_WHOLE.values(), ids=NOT_WHOLE.keys())
async def test_framing_without_end_is_no_success(
    dispatcher: HttpDispatcher, first: bytes, more: bytes
) -> None:
    async with asyncio.timeout(PATIENCE_S), flooding(first, more) as (url, closed):
        outcome = await dispatcher.send(delivery(url, timeout_ms=HOUR_MS))
        assert (outcome.status_code, outcome.reason) == (None, Reason.INVALID_RESPONSE)
        assert outcome.detail == "the answer had begun with status 200"
        await closed.wait()


@pytest.mark.parametrize(("first", "more"), TOO_LONG.values(), ids=TOO_LONG.keys())
async def test_an_answer_without_end_is_closed_at_the_limit_and_no_success(first: bytes, more: bytes) -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        dispatching(LOOPBACK, max_answer_bytes=LIMIT) as dispatcher,
        flooding(first, more) as (url, closed),
    ):
        outcome = await dispatcher.send(delivery(url, timeout_ms=HOUR_MS))
        assert (outcome.status_code, outcome.reason) == (None, Reason.CONNECTION_LOST)
        assert outcome.detail == (
            "closed here: the answer has more than 1,000,000 bytes; the answer had begun with status 200"
        )
        await closed.wait()


@pytest.mark.parametrize(("first", "more"), WITHOUT_END.values(), ids=WITHOUT_END.keys())
async def test_of_an_error_answer_without_end_the_status_counts(
    dispatcher: HttpDispatcher, first: bytes, more: bytes
) -> None:
    first = first.replace(b"200 OK", b"503 Busy\r\nretry-after: 7")
    async with asyncio.timeout(PATIENCE_S), flooding(first, more) as (url, closed):
        outcome = await dispatcher.send(delivery(url, timeout_ms=HOUR_MS))
        assert (outcome.status_code, outcome.reason) == (503, Reason.HTTP_STATUS)
        assert outcome.retry_after_ms == 7_000
        assert outcome.detail == "65,536 bytes of the answer were read, and it has more"
        await closed.wait()


async def test_the_first_of_answers_without_end_counts(dispatcher: HttpDispatcher) -> None:
    more = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 1_000
    async with asyncio.timeout(PATIENCE_S), flooding(b"", more) as (url, closed):
        outcome = await dispatcher.send(delivery(url, timeout_ms=HOUR_MS))
        assert (outcome.status_code, outcome.reason) == (200, None)
        await closed.wait()
