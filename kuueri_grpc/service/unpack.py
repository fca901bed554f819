"""Unpacks compressed messages, no further than a limit.

gRPC's core unpacks a message before anything of this server can refuse it, up to the limit of the largest
method; so it is told not to, and hands out messages as they came. It does not hand out the flag that says
whether a message is compressed. The bytes say it: the first two of gzip are no tag of protobuf, and those of
zlib ("deflate" in gRPC) are followed by data with a checksum that nothing else has.
"""

import asyncio
import zlib

from kuueri_grpc.service.message_errors import MessageTooLarge

_GZIP = b"\x1f\x8b"
_ZLIB = b"\x78"
_ZLIB_CHECK = 31
_GZIP_BITS, _ZLIB_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
#: What is unpacked in the event loop; the rest of a longer message is unpacked in a thread.
_AT_ONCE = 65_536


def is_packed(message: bytes) -> bool:
    """Whether `unpack` has to look at the message."""
    return message.startswith((_GZIP, _ZLIB))


async def unpack(message: bytes, limit: int) -> bytes:
    """Return the message as it was before compression; as it is if it is not compressed.

    Raises:
        MessageTooLarge: it has more than `limit` bytes. It is not unpacked further than that.
    """
    bits = _bits(message)
    if bits is None:
        return message
    unpacking = zlib.decompressobj(bits)
    try:
        data = unpacking.decompress(message, min(limit, _AT_ONCE) + 1)
        if not unpacking.eof and len(data) <= limit:
            rest = unpacking.unconsumed_tail
            data += await asyncio.to_thread(unpacking.decompress, rest, limit + 1 - len(data))
    except zlib.error:
        return message
    if len(data) > limit:
        raise MessageTooLarge(limit)
    return data if unpacking.eof and not unpacking.unused_data else message


def _bits(message: bytes) -> int | None:
    if message.startswith(_GZIP):
        return _GZIP_BITS
    if message.startswith(_ZLIB) and int.from_bytes(message[:2], "big") % _ZLIB_CHECK == 0:
        return _ZLIB_BITS
    return None
