"""Compressed messages: unpacked in full, or refused at the limit without being unpacked further."""

import gzip
import tracemalloc
import zlib

import pytest

from kuueri_grpc.service.message_errors import MessageTooLarge
from kuueri_grpc.service.unpack import is_packed, unpack

PLAIN = b"\x0a\x05hello"
PACKERS = pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])


@PACKERS
@pytest.mark.parametrize("size", [1, 65_536, 65_537, 1_000_000])
async def test_a_packed_message_is_unpacked_up_to_the_limit(pack: "type[bytes]", size: int) -> None:
    plain = bytes(range(256)) * (size // 256 + 1)
    packed = pack(plain[:size])
    assert is_packed(packed)
    assert await unpack(packed, size) == plain[:size]
    with pytest.raises(MessageTooLarge):
        await unpack(packed, size - 1)


@PACKERS
async def test_what_unpacks_to_far_more_than_the_limit_is_not_unpacked_further(pack: "type[bytes]") -> None:
    packed = pack(bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLarge):
            await unpack(packed, 4_096)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        PLAIN,
        b"\x1f\x8b\x08",
        b"\x1f\x8b" + bytes(100),
        gzip.compress(PLAIN, mtime=0)[:-1],
        gzip.compress(PLAIN, mtime=0) + b"more",
        b"\x78\x9c",  # field 15, a varint of two bytes: what it would be, were it not packed
        b"\x78\x01\x0a\x05hello",
        zlib.compress(PLAIN)[:-1],
        zlib.compress(PLAIN) + PLAIN,
    ],
)
async def test_what_is_not_packed_stays_as_it_is(message: bytes) -> None:
    assert await unpack(message, 1_000) == message
