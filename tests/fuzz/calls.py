"""Calls of every method, well formed or not: what is sent, and who says they are."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from kuueri_grpc.pb import project_service_pb2, server_service_pb2, task_service_pb2
from tests.fuzz.messages import messages

#: Every method of the API, by its path. From the descriptors, so that one added later is called too.
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in (task_service_pb2.DESCRIPTOR, project_service_pb2.DESCRIPTOR, server_service_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}

Metadata = tuple[tuple[str, str | bytes], ...]
Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Call:
    """A call to make. `spoil` is done to the message once it is bytes; `token` "" is the caller's own."""

    path: str
    message: Message | bytes
    spoil: Spoil | None
    metadata: Metadata
    token: str | None

    def __repr__(self) -> str:
        text = self.message.hex() if isinstance(self.message, bytes) else str(self.message)
        return f"{self.path} {text!r} {self.metadata!r} {self.token!r}"


def _tag(number: int, wire_type: int) -> bytes:
    value, coded = number << 3 | wire_type, bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*coded, value])


def _varint(value: int) -> bytes:
    return _tag(value >> 3, value & 7)


def nested(number: int, depth: int) -> bytes:
    """Return a message in a field of a message in that field ... `depth` times."""
    inner = b""
    for _ in range(depth):
        inner = _tag(number, 2) + _varint(len(inner)) + inner
    return inner


def _appending(tail: bytes) -> Spoil:
    return lambda message: message + tail


def _with_bad_utf8(descriptor: Descriptor) -> list[Spoil]:
    strings = [field for field in descriptor.fields if field.type == field.TYPE_STRING]
    return [_appending(_tag(field.number, 2) + b"\x03a\xff\xfe") for field in strings]


#: Printable ASCII: the client's library sends nothing else.
_TOKENS = (
    *("", "x", "kq_", "kq_a_b_c", "kq_" + "a" * 12 + "_" + "b" * 43 + "_" + "c" * 6, "x" * 5_000, "a b"),
    *("../../etc/passwd", "kq_{}_*_*", "null", "kq_" + "_" * 60, "Bearer kq_a_b_c"),
)
_VALUES = st.sampled_from(("", "1", "-1", "x" * 100, "x" * 9_000, "x" * 70_000, "99999999S", "gzip"))
_NAMES = st.sampled_from(
    ("x-a", "grpc-previous-rpc-attempts", "user-agent", "x-forwarded-for", "traceparent", "cookie", "te")
)
_METADATA = st.lists(
    st.tuples(_NAMES, _VALUES) | st.tuples(st.just("x-bin"), st.binary(max_size=200)), max_size=3
).map(tuple)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """A call of any method."""
    path = draw(st.sampled_from(sorted(METHODS)))
    descriptor = METHODS[path].input_type
    message: Message | bytes
    spoil: Spoil | None = None
    match draw(st.integers(0, 11)):
        case 0:
            message = draw(st.binary(max_size=200))
        case 1:
            message = nested(draw(st.integers(1, 5)), draw(st.sampled_from((10, 99, 101, 5_000))))
        case 2:
            message = draw(messages(METHODS[draw(st.sampled_from(sorted(METHODS)))].input_type))
        case 3:
            message = draw(messages(descriptor))
            spoil = draw(_spoiling(descriptor))
        case _:
            message = draw(messages(descriptor))
    token = "" if draw(st.integers(0, 7)) else draw(st.none() | st.sampled_from(_TOKENS))
    metadata: Metadata = () if draw(st.integers(0, 7)) else draw(_METADATA)
    return Call(path, message, spoil, metadata, token)


def _spoiling(descriptor: Descriptor) -> st.SearchStrategy[Spoil]:
    position = st.integers(0, 400)
    return st.one_of(
        position.map(lambda end: lambda message: message[:end]),
        position.map(lambda at: lambda message: message[:at] + b"\xff" + message[at + 1 :]),
        st.binary(max_size=20).map(_appending),
        # Fields that nobody knows, of each wire type, groups and numbers out of range too.
        st.sampled_from(
            [
                _tag(1_000, 0) + b"\x01",
                _tag(1_000, 1) + b"\0" * 8,
                _tag(2**29 - 1, 2) + b"\x03abc",
                _tag(1_000, 3) + _tag(1_000, 4),
                _tag(1_000, 3) * 200,
                _tag(0, 0) + b"\x01",
                _tag(1, 2) + b"\xff\xff\xff\xff\x0f",
            ]
        ).map(_appending),
        *([st.sampled_from(found)] if (found := _with_bad_utf8(descriptor)) else []),
    )


def spoilt_token(token: str, how: int) -> str:
    """Return something like a token that the server gave out: as it is, cut, longer, changed, or decoded."""
    match how % 6:
        case 0 | 1:
            return token
        case 2:
            return token[: len(token) // 2]
        case 3:
            return token + "A"
        case 4:
            return token[:-1] + ("A" if token[-1:] != "A" else "B")
        case _:
            return base64.urlsafe_b64encode(token.encode()).decode()
