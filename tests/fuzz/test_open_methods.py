"""Health and reflection, which anybody may call: whatever comes, it is answered and not in the log."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kuueri_grpc.service.reflection import V1, V1ALPHA
from kuueri_grpc.service.server import HEALTH
from tests.acceptance.caller import connected
from tests.acceptance.served import PATIENCE_S, Server
from tests.fuzz.client import FORBIDDEN
from tests.fuzz.messages import messages

METHODS: dict[str, Any] = {
    f"/{name}/{method.name}": method.input_type
    for file, names in ((health_pb2.DESCRIPTOR, (HEALTH,)), (reflection_pb2.DESCRIPTOR, (V1, V1ALPHA)))
    for service in file.services_by_name.values()
    for name in names
    for method in service.methods
}
NO_MESSAGE = b"\xff\xff\xff"

calls = st.sampled_from(sorted(METHODS)).flatmap(
    lambda path: st.tuples(
        st.just(path), messages(METHODS[path]).map(lambda message: message.SerializeToString()) | st.binary()
    )
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("open"), "--workers", "1") as server:
        yield server
        for word in ("Traceback", " ERROR ", " WARNING "):
            assert word not in server.log


async def call(channel: grpc.aio.Channel, path: str, *requests: bytes) -> grpc.StatusCode:
    """Call with these messages alone; return the status, of a stream that after its first answer."""
    # On the wire a call with one message is like one with many.
    stream: Any = channel.stream_stream(path)(timeout=PATIENCE_S)
    try:
        for request in requests:
            await stream.write(request)
        await stream.done_writing()
        await stream.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        code: grpc.StatusCode = await stream.code()
        return code
    else:
        return grpc.StatusCode.OK
    finally:
        stream.cancel()


@pytest.mark.parametrize("path", METHODS)
async def test_what_is_no_message_is_an_invalid_argument(server: Server, path: str) -> None:
    async with connected(server.address) as channel:
        assert await call(channel, path, NO_MESSAGE) is grpc.StatusCode.INVALID_ARGUMENT
        assert await call(channel, path, b"") is grpc.StatusCode.OK


@pytest.mark.parametrize("path", [f"/{V1}/ServerReflectionInfo", f"/{V1ALPHA}/ServerReflectionInfo"])
async def test_a_conversation_that_becomes_none_ends(server: Server, path: str) -> None:
    async with connected(server.address) as channel:
        stream: Any = channel.stream_stream(path)(timeout=PATIENCE_S)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
        assert await stream.read()
        await stream.write(NO_MESSAGE)
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_any_message_gets_an_answer(server: Server) -> None:
    async def make(batch: list[tuple[str, bytes]]) -> None:
        async with connected(server.address) as channel:
            codes = await asyncio.gather(*(call(channel, path, request) for path, request in batch))
        assert not FORBIDDEN.intersection(codes), list(zip(codes, batch, strict=True))

    with asyncio.Runner() as runner:

        @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(calls, min_size=1, max_size=10))
        def any_calls(batch: list[tuple[str, bytes]]) -> None:
            runner.run(make(batch))

        any_calls()
