"""Messages made from their descriptors, so that a field added later is tried without anyone thinking of it.

Where a field's name is known, some of its values are such as a server takes: behind the first refusal nothing
would be reached otherwise.
"""

from collections.abc import Mapping, Sequence

from google.api import field_behavior_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

#: Values that stand for something the server gave out earlier: `client.Tokens` puts it in their place.
GIVEN_OUT = tuple(f"@{n}" for n in range(8))
#: The URL of a target that is there; `client` puts it in its place.
TARGET = "http://target.invalid/"

_IDS = ("a", "b", "c", "d", "task_1", "x" * 128, "x" * 129, "")
_STRINGS: Mapping[str, Sequence[str]] = {
    "task_id": ("@0", "@1", *_IDS, *GIVEN_OUT),
    "queue": ("default", "q", *_IDS),
    "request_id": ("0123456789abcdef", *_IDS),
    "url": (
        TARGET,
        TARGET + "a",
        TARGET + "b?c=d",
        TARGET + "?e",
        TARGET + "ä?q=%zz",
        "http://[::1]/",
        "http://127.1/",
        "http://a@b/",
        "ftp://x/",
    ),
    "email": ("a@example.com", "A@example.com", "b@example.com", "c@example.com", "@", "a@b@c"),
    "page_token": GIVEN_OUT,
    "resume_token": GIVEN_OUT,
    "key_id": GIVEN_OUT,
    "project_id": (*GIVEN_OUT, *_IDS),
}
_EDGES = (0, 1, -1, 2, 59, 300, 1_000, 10**9 - 1, 10**9, 253_402_300_799, 2**31 - 1, -(2**31), 2**32 - 1)
_MORE_EDGES = (2**53, 2**63 - 1, -(2**63), 2**64 - 1, -315_576_000_000, 315_576_000_001)
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_TEXT = st.text(max_size=12)
_BYTES = st.binary(max_size=64) | st.sampled_from((b"{}", b"\xff\xfe", b"\0" * 1_048_577))
_FLOATS = st.floats() | st.sampled_from((0.0, 1.0, 0.5, 1e308, -1.0))
#: Times and waits that a server takes, so that more than the refusal of a far one is tried.
_NEAR = {"google.protobuf.Duration": st.integers(0, 3), "google.protobuf.Timestamp": st.just(1_900_000_000)}


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Return a strategy for messages of a type; each field is there or not.

    Half of them are mild: they have few fields, and values that a server may take.
    """
    return st.booleans().flatmap(lambda mild: _message(descriptor, mild=mild))


@st.composite
def _message(draw: st.DrawFn, descriptor: Descriptor, *, mild: bool) -> Message:
    message = GetMessageClass(descriptor)()
    near = _NEAR.get(descriptor.full_name)
    if near is not None and (mild or draw(st.booleans())):
        setattr(message, "seconds", draw(near))  # noqa: B010  a name that not every message has
        return message
    # A field that must be there mostly is; of the others a few are, or nothing ever passes validation.
    for field in descriptor.fields:
        if draw(st.integers(0, 7)) > (0 if _is_required(field) else 5):
            _fill(draw, message, field, mild=mild)
    return message


def _fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, *, mild: bool) -> None:
    if not field.is_repeated:
        if field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(_message(field.message_type, mild=mild)))
        else:
            setattr(message, field.name, draw(_scalar(field, mild=mild)))
        return
    count = draw(st.sampled_from((1, 1, 1, 2, 3, 70)))
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        entries = getattr(message, field.name)
        for _ in range(min(count, 3)):
            entries[draw(_scalar(key, mild=mild))] = draw(_scalar(value, mild=mild))
    elif field.message_type is not None:
        item = draw(_message(field.message_type, mild=mild))
        getattr(message, field.name).extend([item] * count)
    else:
        getattr(message, field.name).extend([draw(_scalar(field, mild=mild))] * count)


def _is_required(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _values_of(field: FieldDescriptor) -> list[int]:
    return [] if field.enum_type is None else list(field.enum_type.values_by_number)


def _scalar(field: FieldDescriptor, *, mild: bool) -> st.SearchStrategy[object]:
    if field.cpp_type in _BOUNDS:
        low, high = (0, 300) if mild else _BOUNDS[field.cpp_type]
        return st.sampled_from([edge for edge in (*_EDGES, *_MORE_EDGES) if low <= edge <= high])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return st.just(b"{}") if mild else _BYTES
        case FieldDescriptor.CPPTYPE_STRING:
            return _strings(field.name, mild=mild)
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.sampled_from([*_values_of(field), *(() if mild else (-1, 99, 2**31 - 1))])
        case _:
            return st.just(0.5) if mild else _FLOATS


def _strings(name: str, *, mild: bool) -> st.SearchStrategy[str]:
    known = _STRINGS.get(name)
    if mild:
        return st.sampled_from("abc" if known is None else known[:4])
    return _TEXT if known is None else st.sampled_from(known) | _TEXT
