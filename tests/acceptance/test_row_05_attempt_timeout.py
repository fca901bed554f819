"""Row 5: one deadline over connect, headers and the whole body."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.acceptance.caller import Project, duration, ms, of_type, post, reason_name, retries, state_name
from tests.acceptance.targets import Target, dripping, held

TIMEOUT_MS = 800

HEAD = b"HTTP/1.1 200 OK\r\n"
ENDLESS_BODY = b"content-length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("prefix", "drop", "timeout_ms"),
    # The head of an answer must come within the time, also where something stands still for two seconds.
    [(HEAD, b"x-drop: 1\r\n", TIMEOUT_MS), (HEAD + ENDLESS_BODY, b".", 3_000)],
    ids=["headers", "body"],
)
async def test_row_05_a_target_that_drips_is_cut_off(
    project: Project, target: Target, prefix: bytes, drop: bytes, timeout_ms: int
) -> None:
    task = await project.subscribe(
        post(target.script("/hook", dripping(prefix, drop)), attempt_timeout=duration(timeout_ms))
    )
    (exchange,) = await target.received("/hook")
    await exchange.connection_lost()
    task, events = await project.ended(task.task_id)

    (errored,) = of_type(events, "ERRORED")
    assert reason_name(errored) == reason_name(task.last_attempt) == "TIMEOUT"
    # A status code is that of a whole answer; of one that had begun the description has it.
    assert not errored.HasField("status_code")
    assert ("200" in errored.description) == (ENDLESS_BODY in prefix)
    assert ms(errored.latency) >= timeout_ms
    assert state_name(task) == "FAILED"


async def test_row_05_a_target_that_never_answers_is_cut_off_and_retried(
    project: Project, target: Target
) -> None:
    answers = asyncio.Event()
    task = await project.subscribe(
        post(
            target.script("/hook", held(answers)),
            attempt_timeout=duration(TIMEOUT_MS),
            retry_policy=retries(100),
        )
    )
    exchange, *_ = await target.received("/hook")
    await project.until(task.task_id, "ERRORED", count=2)
    await exchange.connection_lost()
    answers.set()
    task, events = await project.ended(task.task_id)

    # More of them where the machine was too busy to send an attempt, or to answer it, in its time.
    errors = of_type(events, "ERRORED")
    assert {reason_name(event) for event in errors} == {"TIMEOUT"}
    assert not any(event.HasField("status_code") for event in errors)
    assert (state_name(task), task.attempt_count) == ("COMPLETED", len(errors) + 1)


@pytest.fixture
def unconnectable_port() -> Iterator[int]:
    """A port on which a connection is neither made nor refused: the queue for it is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port


async def test_row_05_the_time_to_connect_counts(project: Project, unconnectable_port: int) -> None:
    task = await project.subscribe(
        post(f"http://127.0.0.1:{unconnectable_port}/", attempt_timeout=duration(TIMEOUT_MS))
    )
    task, events = await project.ended(task.task_id)

    (errored,) = of_type(events, "ERRORED")
    assert reason_name(errored) == "TIMEOUT"
    assert not errored.HasField("status_code")
    assert state_name(task) == "FAILED"


async def test_row_05_an_answer_within_the_time_is_a_success(project: Project, target: Target) -> None:
    gate = asyncio.Event()
    task = await project.subscribe(
        post(target.script("/hook", held(gate)), attempt_timeout=duration(1_800_000))
    )
    await target.received("/hook")
    gate.set()
    task, _ = await project.ended(task.task_id)

    assert state_name(task) == "COMPLETED"
