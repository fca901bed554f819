"""Parses the message of a call.

A message that carries tasks may be long. It is scanned first, because the parser takes many times the bytes
of small fields, and then parsed task by task, in slices.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError

from kuueri_grpc.pb import task_pb2, task_service_pb2
from kuueri_grpc.service.field_scan import BYTES, Malformed, fields
from kuueri_grpc.service.slices import Slices
from kuueri_grpc.service.violations import InvalidFields, Violation

#: What is parsed unseen: at worst it takes a few ms, and some 5 MB.
_SHORT = 65_536
_SHORT_TASK = 16_384
#: Fields of a task and of its target, an entry of a map being one. Valid tasks have some 4,700 at most.
_MOST_FIELDS = 5_000
#: Fields of a request beside its tasks.
_MOST_OTHER = 64

_TASK = task_service_pb2.SubscribeRequest.DESCRIPTOR.fields_by_name["task"].number
_REPEATED = {
    task_service_pb2.BatchSubscribeRequest.DESCRIPTOR.fields_by_name[name].number: name
    for name in ("tasks", "requests")
}
_TARGET = task_pb2.Task.DESCRIPTOR.fields_by_name["http_target"].number

Read = Callable[[bytes], Any]


def parse(read: Read, message: bytes) -> Any:
    """Return what `read` makes of a message.

    Raises:
        InvalidFields: it is not a message of that type. gRPC's own parsing would answer UNKNOWN, and log a
            traceback.
    """
    try:
        return read(message)
    except DecodeError:
        raise _not_a_message() from None


def parser(name: str, most_tasks: int) -> Callable[[Read, bytes], Awaitable[Any]] | None:
    """Return how long messages of a method (`TaskService/BatchSubscribe`) are parsed; None: by `parse`.

    `most_tasks`: those that a batch may have.
    """
    if name == "TaskService/Subscribe":
        return parse_task
    if name == "TaskService/BatchSubscribe":
        return lambda read, message: parse_batch(read, message, most_tasks)
    return None


async def parse_task(read: Read, message: bytes) -> Any:
    """Parse a SubscribeRequest. Raises `InvalidFields`, here and below."""
    if len(message) > _SHORT:
        try:
            _check_request(message, 0, len(message), "")
        except Malformed:
            raise _not_a_message() from None
    return parse(read, message)


async def parse_batch(read: Read, message: bytes, most: int) -> Any:
    """Parse a BatchSubscribeRequest of at most `most` tasks, in `tasks` or in `requests`."""
    if len(message) <= _SHORT:
        return parse(read, message)
    slices = Slices()
    items, others = _split(message, most)
    request = parse(read, others)
    for name, start, end in items:
        repeated = getattr(request, name)
        if end - start > _SHORT_TASK:
            try:
                _CHECKS[name](message, start, end, f"{name}[{len(repeated)}]")
            except Malformed:
                raise _not_a_message() from None
        parse(repeated.add().MergeFromString, message[start:end])
        await slices.pause()
    return request


def _split(message: bytes, most: int) -> tuple[list[tuple[str, int, int]], bytes]:
    """Return where the tasks and the requests are, and the other fields."""
    items: list[tuple[str, int, int]] = []
    others, after, count = bytearray(), 0, 0
    try:
        for number, kind, start, end in fields(message, 0, len(message)):
            if kind == BYTES and (name := _REPEATED.get(number)):
                items.append((name, start, end))
                if len(items) > most:
                    raise InvalidFields([Violation(name, f"are more than {most:,}; expected 1 to {most:,}")])
            else:
                others += message[after:end]
                count += 1
                if count > _MOST_OTHER:
                    raise _too_many("request", _MOST_OTHER)
            after = end
    except Malformed:
        raise _not_a_message() from None
    return items, bytes(others)


def _check_request(message: bytes, start: int, end: int, path: str) -> None:
    """Check a SubscribeRequest; `path`: where it is in a batch, empty for one of its own."""
    for i, (number, kind, begin, close) in enumerate(fields(message, start, end)):
        if i > _MOST_OTHER:
            raise _too_many(path or "request", _MOST_OTHER)
        if number == _TASK and kind == BYTES:
            _check_task(message, begin, close, f"{path}.task" if path else "task")


def _check_task(message: bytes, start: int, end: int, path: str) -> None:
    count = 0
    for number, kind, begin, close in fields(message, start, end):
        count += 1
        if number == _TARGET and kind == BYTES:
            for _ in fields(message, begin, close):
                count += 1
                if count > _MOST_FIELDS:
                    break
        elif close - begin > _SHORT:
            raise InvalidFields(
                [Violation(path, f"has a field of {close - begin:,} bytes beside its target")]
            )
        if count > _MOST_FIELDS:
            raise _too_many(path, _MOST_FIELDS)


_CHECKS = {"tasks": _check_task, "requests": _check_request}


def _not_a_message() -> InvalidFields:
    fault = "is no message of the type that this method takes, or has a string that is not UTF-8"
    return InvalidFields([Violation("request", fault)])


def _too_many(path: str, most: int) -> InvalidFields:
    return InvalidFields([Violation(path, f"has more than {most:,} fields and entries of maps")])
