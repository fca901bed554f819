"""The one connection to the store: over TLS, in pieces, to what is no store."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
import uvloop

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store.client import StoreClient
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.errors import outages_mapped
from tests.acceptance.served import PATIENCE_S
from tests.outages.proxy import Proxy
from tests.outages.valkeys import Valkey

#: More than a socket takes at once, either way.
LARGE = b"x" * 4_000_000
MANY = 50


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[StoreClient]:
    async with StoreAddress(url).connect() as client:
        assert isinstance(client, StoreClient)
        yield client


@asynccontextmanager
async def behind_tls(upstream: int, server_tls: ssl.SSLContext) -> AsyncIterator[Proxy]:
    """Run what ends TLS before a store."""
    proxy = Proxy(upstream)
    async with await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=server_tls) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        proxy.close_connections()


async def use(client: StoreClient) -> None:
    """Read and write, much and little, one after the other and at once."""
    await client.set("large", LARGE)
    answers = await asyncio.gather(
        *(client.execute_command("ECHO", str(n)) for n in range(MANY)),
        client.execute_command("GET", "large"),
        *(client.execute_command("ECHO", str(n)) for n in range(MANY)),
    )
    echoes = [str(n).encode() for n in range(MANY)]
    assert answers == [*echoes, LARGE, *echoes]


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_over_tls(
    valkey: Valkey, tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    authority, server = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    certificate = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(certificate)

    async def run() -> None:
        async with behind_tls(valkey.port, server) as proxy:
            url = f"rediss://localhost:{proxy.port}?ssl_ca_certs={quote(str(certificate))}"
            async with connected(url) as client:
                await use(client)
                proxy.close_connections()
                # The next one is opened by itself.
                await use(client)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


def test_with_the_loop_that_the_server_has(valkey: Valkey) -> None:
    async def run() -> None:
        async with connected(valkey.url) as client:
            await use(client)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@asynccontextmanager
async def answering(noise: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Run what greets as a store does and answers GET with noise; give its URL and when it was left."""
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if b"GET" in data:
                writer.write(noise)
            elif b"HELLO" in data:
                writer.write(b"%1\r\n+proto\r\n:3\r\n")
            else:
                writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
        left.set()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", left


async def get(client: StoreClient) -> None:
    with outages_mapped():
        await client.execute_command("GET", "key")


async def test_an_answer_that_cannot_be_read_is_an_outage() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (url, _), connected(url) as client:
        told = await asyncio.gather(*(get(client) for _ in range(MANY)), return_exceptions=True)
    assert [str(error) for error in told] == ["the store does not serve now: it cannot be reached"] * MANY
    assert {type(error) for error in told} == {StoreUnavailable}


async def test_a_server_that_answers_more_than_was_asked_is_left() -> None:
    """What it answers next would be taken for the answer to something else."""
    async with answering(b"+one\r\n+two\r\n") as (url, left), connected(url) as client:
        assert await client.execute_command("GET", "key") == b"one"
        async with asyncio.timeout(PATIENCE_S):
            await left.wait()
