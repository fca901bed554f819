"""The task that everything is measured with: a signed POST of 200 bytes of JSON."""

import secrets
from collections.abc import Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.harness.target import TASK_HEADER
from kuueri_grpc.pb import task_pb2, task_service_pb2

BODY_BYTES = 200
#: What BatchSubscribe takes at most.
BATCH = 1_000
#: As long as the ids that the server makes.
_ID_LENGTH = 26
_DIGITS = 8


def new_prefix() -> str:
    """Return what the ids of one set of tasks begin with."""
    return secrets.token_hex(_ID_LENGTH)[: _ID_LENGTH - _DIGITS]


def task_id(prefix: str, index: int) -> str:
    """Return the id of a task of a set."""
    return f"{prefix}{index:0{_DIGITS}}"


def build_task(url: str, prefix: str, index: int, due_ms: int) -> task_pb2.Task:
    """Return a task of a set, due at `due_ms`."""
    name = task_id(prefix, index)
    at = Timestamp()
    at.FromMilliseconds(due_ms)
    return task_pb2.Task(
        task_id=name,
        http_target=task_pb2.HttpTarget(url=url, headers={TASK_HEADER: name}, body=_body(name)),
        schedule=task_pb2.Schedule(at=at),
    )


def batches(
    url: str, prefix: str, dues_ms: Sequence[int]
) -> Iterator[task_service_pb2.BatchSubscribeRequest]:
    """Yield the calls that subscribe one task for each due time."""
    for start in range(0, len(dues_ms), BATCH):
        yield task_service_pb2.BatchSubscribeRequest(
            tasks=(
                build_task(url, prefix, start + place, due_ms)
                for place, due_ms in enumerate(dues_ms[start : start + BATCH])
            )
        )


def _body(name: str) -> bytes:
    head = f'{{"task":"{name}","pad":"'
    return f'{head}{"x" * (BODY_BYTES - len(head) - 2)}"}}'.encode()
