"""Control characters in names, labels and messages do not reach a terminal, whatever form the output has."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.cli.safe_text import printable, printable_lines, to_json_line
from kuueri_grpc.pb.task_pb2 import Task
from kuueri_grpc.pb.task_service_pb2 import (
    GetTaskResponse,
    GetTimelineResponse,
    ListTasksResponse,
    WatchResponse,
)
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent

Run = Callable[..., tuple[int, str, str]]

#: CSI as C0 and as C1, DEL, a bidirectional override, a line separator, a tag beyond the BMP, NUL.
STEERING = "\x1b[2J \x9b2J \x7f \u202e \u2028 \U000e0001 \x00 \u00ad end"


def is_safe(written: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in written)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.lists(st.text()), st.integers(), st.none())))
def test_json_parses_to_what_it_was_made_of(document: dict[str, object]) -> None:
    line = to_json_line(document)

    assert line.isprintable()
    assert json.loads(line) == document


def test_json_keeps_what_is_printable() -> None:
    assert to_json_line({"ünï": "漢字 🎉"}) == '{"ünï": "漢字 🎉"}'
    assert to_json_line(STEERING) == (
        r'"\u001b[2J \u009b2J \u007f \u202e \u2028 \udb40\udc01 \u0000 \u00ad end"'
    )


@given(st.text())
def test_text_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert printable_lines(text).count("\n") == text.count("\n")


def scripted_task() -> Task:
    task = Task(task_id="t", queue=STEERING, labels={"label": STEERING, STEERING: "value"})
    task.http_target.url = f"https://example.com/{STEERING}"
    task.http_target.headers["x"] = STEERING
    return task


def scripted_event() -> TimelineEvent:
    return TimelineEvent(sequence=1, task_id=STEERING, description=STEERING)


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "command", [("get", "t"), ("list",), ("timeline", "t"), ("watch", "t"), ("watch", "--all")]
)
def test_no_command_writes_them(
    run: Run, server: Any, command: tuple[str, ...], form: tuple[str, ...]
) -> None:
    server.tasks.get_answers = [GetTaskResponse(task=scripted_task())]
    server.tasks.list_answers = [ListTasksResponse(tasks=[scripted_task()])]
    server.tasks.timeline_answers = [GetTimelineResponse(events=[scripted_event()])]
    server.tasks.watch_answers = [
        [WatchResponse(snapshot=scripted_task()), WatchResponse(event=scripted_event())]
    ]

    code, out, err = run(*command, *form, "-a", server.address)

    assert (code, err) == (0, "")
    assert out
    assert is_safe(out)
    if form:
        assert any(STEERING in text for line in out.splitlines() for text in _texts(json.loads(line)))


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for pair in value.items() for part in pair for text in _texts(part)]
        case list():
            return [text for part in value for text in _texts(part)]
        case _:
            return []


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_no_error_writes_them(run: Run, server: Any, form: tuple[str, ...]) -> None:
    faults = [server.details.BadRequest.FieldViolation(field=STEERING, description=f"is {STEERING}")]
    server.tasks.get_answers.append(
        server.refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"no {STEERING}",
            (server.details.BadRequest(field_violations=faults),),
        )
    )

    code, out, err = run("get", "t", *form, "-a", server.address)

    assert (code, out) == (1, "")
    assert is_safe(err)
    if form:
        assert json.loads(err)["error"]["violations"] == [
            {"field": STEERING, "description": f"is {STEERING}"}
        ]


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_nor_does_one_about_the_command_line(run: Run, form: tuple[str, ...]) -> None:
    code, out, err = run("list", "--state", STEERING.replace("\x00", ""), *form)

    assert (code, out) == (2, "")
    assert is_safe(err)
