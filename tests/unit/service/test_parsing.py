"""Long messages: read as the parser reads them, or refused before the parser has to pay for their fields."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuueri_grpc.pb.task_pb2 import HttpTarget, Task
from kuueri_grpc.pb.task_service_pb2 import BatchSubscribeRequest, SubscribeRequest
from kuueri_grpc.service import parsing
from kuueri_grpc.service.field_scan import Malformed, fields
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.requests import read_batch
from kuueri_grpc.service.violations import InvalidFields
from tests.fuzz.messages import messages

MOST = 1_000
LARGE = Task(http_target=HttpTarget(url="https://example.com/", body=b"x" * 1_048_576))


def fault(error: InvalidFields) -> tuple[str, str]:
    (violation,) = error.violations
    return violation.field, violation.description


def subscribe(**task: Any) -> bytes:
    return SubscribeRequest(task=Task(**task)).SerializeToString()


async def batch(message: bytes) -> Any:
    return await parsing.parse_batch(BatchSubscribeRequest.FromString, message, MOST)


async def single(message: bytes) -> Any:
    return await parsing.parse_task(SubscribeRequest.FromString, message)


@settings(deadline=None)
@given(messages(BatchSubscribeRequest.DESCRIPTOR))
async def test_a_long_batch_is_what_the_parser_makes_of_it(request: Any) -> None:
    for _ in range(2):
        request.tasks.append(LARGE)
        request.requests.add(task=LARGE, request_id="r")
    assert await batch(request.SerializeToString()) == request


async def test_the_largest_batch_is_taken() -> None:
    headers = {f"x-{i}": "x" * 50 for i in range(100)}
    task = Task(http_target=HttpTarget(url="https://example.com/", headers=headers), labels={"a": "b"})
    request = BatchSubscribeRequest(tasks=[task] * MOST)
    assert await batch(request.SerializeToString()) == request
    request = BatchSubscribeRequest(requests=[SubscribeRequest(task=task, request_id="r")] * MOST)
    assert await batch(request.SerializeToString()) == request


async def test_a_task_with_all_that_a_task_may_have_is_taken() -> None:
    task = Task(
        http_target=HttpTarget(
            url="https://example.com/",
            headers={f"x-{i}": "x" * 20 for i in range(3_000)},
            query_params={f"{i}": "" for i in range(1_041)},
            body=b"x" * 1_048_576,
        ),
        labels={f"a{i}": "\N{SNOWMAN}" * 255 for i in range(64)},
    )
    task.retry_policy.retryable_status_codes.extend([400] * 500)
    request = SubscribeRequest(task=task)
    assert await single(request.SerializeToString()) == request
    assert (await batch(BatchSubscribeRequest(tasks=[task]).SerializeToString())).tasks[0] == task


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b"\x0a\x00" * 4_000_000, ("tasks", "are more than 1,000; expected 1 to 1,000")),
        (
            BatchSubscribeRequest(
                tasks=[Task(), Task(labels={f"{i}": "" for i in range(50_000)})]
            ).SerializeToString(),
            ("tasks[1]", "has more than 5,000 fields and entries of maps"),
        ),
        (b"\x22\x00" * 4_000_000, ("requests", "are more than 1,000; expected 1 to 1,000")),
        (
            BatchSubscribeRequest(
                requests=[
                    SubscribeRequest(),
                    SubscribeRequest(task=Task(labels={f"{i}": "" for i in range(50_000)})),
                ]
            ).SerializeToString(),
            ("requests[1].task", "has more than 5,000 fields and entries of maps"),
        ),
        (
            b"\x22\xa0\x8d\x06" + b"\x78\x01" * 50_000,
            ("requests[0]", "has more than 64 fields and entries of maps"),
        ),
        (b"\x78\x01" * 4_000_000, ("request", "has more than 64 fields and entries of maps")),
    ],
    ids=[
        "empty tasks",
        "labels",
        "empty requests",
        "labels of a request",
        "fields of a request",
        "unknown fields",
    ],
)
async def test_a_batch_of_too_many_fields_costs_nothing(message: bytes, found: tuple[str, str]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFields) as caught:
            await batch(message)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert fault(caught.value) == found


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (
            subscribe(labels={f"{i}": "" for i in range(50_000)}),
            ("task", "has more than 5,000 fields and entries of maps"),
        ),
        (
            subscribe(http_target=HttpTarget(headers={f"{i}": "" for i in range(50_000)})),
            ("task", "has more than 5,000 fields and entries of maps"),
        ),
        (b"\x0a\x00" * 50_000, ("request", "has more than 64 fields and entries of maps")),
        (
            subscribe(retry_policy={"retryable_status_codes": [1] * 100_000}),
            ("task", "has a field of 100,004 bytes beside its target"),
        ),
    ],
    ids=["labels", "headers", "merged tasks", "status codes"],
)
async def test_a_task_of_too_many_fields_is_refused(message: bytes, found: tuple[str, str]) -> None:
    with pytest.raises(InvalidFields) as caught:
        await single(message)
    assert fault(caught.value) == found


@pytest.mark.parametrize("parse", [single, batch])
@pytest.mark.parametrize("tail", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0f", b"\x0a" + b"\xff" * 11])
async def test_what_is_not_a_message_is_named_as_such(parse: Any, tail: bytes) -> None:
    with pytest.raises(InvalidFields, match="is no message of the type"):
        await parse(subscribe(http_target=HttpTarget(body=b"x" * 70_000)) + tail)


@given(st.binary(max_size=200))
def test_the_scan_ends_within_the_bytes(message: bytes) -> None:
    try:
        found = list(fields(message, 0, len(message)))
    except Malformed:
        return
    assert not found or found[-1][3] == len(message)


async def test_a_long_batch_is_read_in_slices() -> None:
    """Other work has its turns while one is read: here a task that counts them."""
    headers = {f"x-{i}": "x" for i in range(500)}
    task = Task(http_target=HttpTarget(url="https://example.com/", headers=headers))
    message = BatchSubscribeRequest(tasks=[task] * 1_000).SerializeToString()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    request = await batch(message)
    parsed, turns = turns, 0
    assert len((await read_batch(request, Limits(), 0))[0]) == 1_000
    counting.cancel()
    assert parsed > 3
    assert turns > 3
