"""What is no call at all: bytes on the port, frames that abuse HTTP/2, messages that are not what they say.

Each is sent over a connection of its own; then the server answers as before, and holds no more memory.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Iterator

import grpc.aio
import pytest

from benchmarks.harness.procfs import rss_bytes
from kuueri_grpc.pb.task_pb2 import HttpTarget, Task
from kuueri_grpc.pb.task_service_pb2 import SubscribeRequest
from tests.acceptance.caller import Project, connected, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.fuzz.test_every_rpc import UNTHROTTLED

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST, SETTINGS, PING, CONTINUATION, DATA = 0x1, 0x3, 0x4, 0x6, 0x9, 0x0
END_STREAM, END_HEADERS = 0x1, 0x4
SUBSCRIBE = "/kuueri.tasks.v1.TaskService/Subscribe"
_SLACK_BYTES = 64 * 1_048_576


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header as HPACK has it, without index and Huffman code; lengths below 127 each."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request(stream: int, *more: tuple[bytes, bytes], path: bytes = SUBSCRIBE.encode()) -> bytes:
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc"), *more]
    return frame(HEADERS, END_HEADERS, stream, b"".join(literal(*field) for field in fields))


def message(stream: int, body: bytes, length: int | None = None, compressed: int = 0) -> bytes:
    head = struct.pack("!BI", compressed, len(body) if length is None else length)
    return frame(DATA, END_STREAM, stream, head + body)


START = PREFACE + frame(SETTINGS, 0, 0)
GARBAGE: dict[str, bytes] = {
    "random bytes": os.urandom(100_000),
    "HTTP/1.1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100fa010000f60303") + b"\x00" * 300,
    "half a preface": PREFACE[:10],
    "a preface and random bytes": PREFACE + os.urandom(100_000),
    "a frame of 16 MB that never comes": START + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "a frame of an unknown type": START + frame(0xEE, 0xFF, 1, b"x" * 100),
    "data on a stream that is not open": START + message(7, b"x"),
    "headers that are no HPACK": START + frame(HEADERS, END_HEADERS, 1, b"\xff" * 200),
    "headers without end": START
    + frame(HEADERS, 0, 1, b"\x00\x01a\x01b")
    + frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b") * 20_000,
    "rapid resets": START
    + b"".join(request(n) + frame(RST, 0, n, b"\0\0\0\x08") for n in range(1, 4_001, 2)),
    "pings": START + frame(PING, 0, 0, b"12345678") * 20_000,
    "settings": START + frame(SETTINGS, 0, 0, struct.pack("!HI", 3, 1)) * 5_000,
    "a window of nothing": START
    + frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 0))
    + request(1)
    + message(1, b""),
    "a path that is none": START + request(1, path=b"\xff\xfe") + message(1, b""),
    "metadata that is not ASCII": START
    + request(1, (b"authorization", "Bearer kq_ä".encode()))
    + message(1, b""),
    "metadata with control characters": START
    + request(1, (b"authorization", b"Bearer a\x01\x7f"))
    + message(1, b""),
    "metadata in upper case": START + request(1, (b"Authorization", b"Bearer a")) + message(1, b""),
    "binary metadata that is not base64": START + request(1, (b"x-bin", b"***")) + message(1, b""),
    "a deadline that is none": START + request(1, (b"grpc-timeout", b"soon")) + message(1, b""),
    "an encoding that is none": START
    + request(1, (b"grpc-encoding", b"rot13"))
    + message(1, b"x", compressed=1),
    "gzip that is none": START
    + request(1, (b"grpc-encoding", b"gzip"))
    + message(1, b"not gzip", compressed=1),
    "a message shorter than it says": START + request(1) + message(1, b"x", length=1_000),
    "a message of 4 GB, it says": START + request(1) + message(1, b"x", length=2**32 - 1),
    "two messages for one": START
    + request(1)
    + frame(DATA, 0, 1, struct.pack("!BI", 0, 0) * 2)
    + message(1, b""),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("garbage"), *LOOPBACK, "--workers", "1", env=UNTHROTTLED) as server:
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
async def project(server: Server) -> AsyncIterator[Project]:
    async with connected(server.address) as channel:
        yield await register(channel)


async def throw(address: str, garbage: bytes) -> None:
    """Send it, and read what comes until the server closes or has had time to answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(garbage)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            while await reader.read(1 << 16):
                pass
    except OSError:
        pass  # reset: as good an answer as any
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_the_trouble_of_its_connection_alone(
    server: Server, project: Project, garbage: bytes
) -> None:
    before = rss_bytes([server.pid])
    for _ in range(3):
        await throw(server.address, garbage)

    assert server.running
    assert (await project.facts()).project_id == project.project_id
    assert rss_bytes([server.pid]) - before < _SLACK_BYTES


async def test_a_message_that_unpacks_to_a_thousand_times_its_size_is_refused(
    server: Server, project: Project
) -> None:
    before = rss_bytes([server.pid])
    bomb = SubscribeRequest(
        task=Task(http_target=HttpTarget(url="http://127.0.0.1/", body=b"\0" * 200_000_000))
    )
    async with grpc.aio.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await project.on(channel).tasks.Subscribe(bomb, metadata=project.metadata)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await project.facts()).task_in_queue == 0
    assert rss_bytes([server.pid]) - before < _SLACK_BYTES
