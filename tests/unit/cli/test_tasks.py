"""The commands on tasks, against scripted answers."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from kuueri_grpc.pb.task_pb2 import Task, TaskState, TaskView
from kuueri_grpc.pb.task_service_pb2 import (
    CancelResponse,
    GetTaskResponse,
    GetTimelineResponse,
    ListTasksResponse,
    WatchResponse,
)
from kuueri_grpc.pb.timeline_pb2 import EventType, TimelineEvent, TimelineGap

Run = Callable[..., tuple[int, str, str]]


def page(first: int, count: int, next_page_token: str = "") -> ListTasksResponse:
    tasks = [Task(task_id=f"t{number}") for number in range(first, first + count)]
    return ListTasksResponse(tasks=tasks, next_page_token=next_page_token)


def listed(out: str) -> list[str]:
    return [json.loads(line)["task_id"] for line in out.splitlines()]


def test_list_asks_for_what_it_shows(run: Run, server: Any) -> None:
    server.tasks.list_answers = [page(0, 2)]
    code, out, err = run(
        "list", "-a", server.address, "--state", "paused", "--queue", "q", "--label", "a=1", "--json"
    )
    assert (code, err) == (0, "")
    assert listed(out) == ["t0", "t1"]
    request = server.tasks.requests[0]
    assert request.state == TaskState.TASK_STATE_PAUSED
    assert (request.queue, dict(request.labels), request.page_size) == ("q", {"a": "1"}, 50)


@pytest.mark.parametrize("command", ["list", "get t", "cancel t", "watch t"])
def test_a_command_asks_for_no_more_of_a_task_than_it_shows(run: Run, server: Any, command: str) -> None:
    def script() -> None:
        server.tasks.list_answers = [page(0, 1)]
        server.tasks.get_answers = [GetTaskResponse(task=Task(task_id="t"))]
        server.tasks.cancel_answers = [CancelResponse(task=Task(task_id="t"))]
        server.tasks.watch_answers = [[WatchResponse(snapshot=Task(task_id="t"))]]

    for option in ("--json", ""):
        script()
        assert run(*command.split(), "-a", server.address, *option.split())[0] == 0
    shown = TaskView.TASK_VIEW_MINIMAL if command == "cancel t" else TaskView.TASK_VIEW_BASIC
    assert [request.view for request in server.tasks.requests] == [TaskView.TASK_VIEW_BASIC, shown]


@pytest.mark.parametrize("command", ["list", "get t"])
def test_everything_is_shown_to_those_alone_who_ask_for_it(run: Run, server: Any, command: str) -> None:
    server.tasks.list_answers = [page(0, 1)]
    server.tasks.get_answers = [GetTaskResponse(task=Task(task_id="t"))]
    assert run(*command.split(), "-a", server.address, "--full")[0] == 0
    assert [request.view for request in server.tasks.requests] == [TaskView.TASK_VIEW_FULL]


def test_what_a_view_hides_is_named(run: Run, server: Any) -> None:
    task = Task(task_id="t")
    task.http_target.url, task.http_target.url_query_hidden = "https://example.com/a", True
    task.http_target.header_names.append("authorization")
    task.http_target.query_param_names.append("key")
    server.tasks.get_answers = [GetTaskResponse(task=task)]
    code, out, _ = run("get", "t", "-a", server.address)
    assert code == 0
    shown = [line.split(maxsplit=1) for line in out.splitlines()]
    assert ["request", "POST https://example.com/a?..."] in shown
    assert ["header", "authorization"] in shown
    assert ["query", "key"] in shown


def test_the_size_of_a_body_is_shown_where_the_body_is_left_out(run: Run, server: Any) -> None:
    task = Task(task_id="t")
    task.http_target.body_size = 8_000_000
    server.tasks.get_answers = [GetTaskResponse(task=task)]
    code, out, _ = run("get", "t", "-a", server.address)
    assert code == 0
    assert "8,000,000 bytes" in out


def test_list_goes_on_over_short_pages_up_to_its_limit(run: Run, server: Any) -> None:
    server.tasks.list_answers = [page(0, 1, "b"), page(0, 0, "c"), page(1, 2, "d")]
    _, out, err = run("list", "-a", server.address, "--limit", "3", "--json")
    assert listed(out) == ["t0", "t1", "t2"]
    assert [(r.page_size, r.page_token) for r in server.tasks.requests] == [(3, ""), (2, "b"), (2, "c")]
    assert json.loads(err)["notice"].startswith("the newest 3; there are more")


def test_list_all_goes_to_the_end(run: Run, server: Any) -> None:
    server.tasks.list_answers = [page(0, 2, "b"), page(2, 1)]
    _, out, err = run("list", "-a", server.address, "--all", "--json")
    assert listed(out) == ["t0", "t1", "t2"]
    assert [r.page_size for r in server.tasks.requests] == [1_000, 1_000]
    assert err == ""


def test_a_task_that_the_server_cannot_read_is_told_of_beside_the_others(run: Run, server: Any) -> None:
    answer = page(0, 2)
    answer.unreadable_tasks.add(task_id="bad").error.message = "the record of task 'bad' cannot be read: why"
    server.tasks.list_answers = [answer]
    code, out, err = run("list", "-a", server.address, "--json")
    assert (code, listed(out)) == (0, ["t0", "t1"])
    assert json.loads(err) == {"notice": "the record of task 'bad' cannot be read: why"}


def test_an_empty_list_says_so_beside_standard_output(run: Run, server: Any) -> None:
    server.tasks.list_answers = [page(0, 0)]
    assert run("list", "-a", server.address) == (0, "", "no tasks\n")


def test_timeline_goes_to_the_end(run: Run, server: Any) -> None:
    def events(*sequences: int) -> list[TimelineEvent]:
        return [TimelineEvent(sequence=n, type=EventType.EVENT_TYPE_DISPATCHED) for n in sequences]

    server.tasks.timeline_answers = [
        GetTimelineResponse(events=events(1, 2), next_page_token="b"),
        GetTimelineResponse(events=events(3)),
    ]
    _, out, _ = run("timeline", "t", "-a", server.address, "--json")
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == ["1", "2", "3"]
    assert [request.page_token for request in server.tasks.requests] == ["", "b"]


def canceled(task_id: str) -> CancelResponse:
    return CancelResponse(task=Task(task_id=task_id, state=TaskState.TASK_STATE_CANCELED))


def test_one_refusal_leaves_the_others_to_their_turn(run: Run, server: Any) -> None:
    refusal = server.refusal(grpc.StatusCode.NOT_FOUND, "no task 'b'")
    server.tasks.cancel_answers = [canceled("a"), refusal, canceled("c")]
    code, out, err = run("cancel", "a", "b", "c", "-a", server.address)
    assert (code, out, err) == (1, "a  CANCELED\nc  CANCELED\n", "error: no task 'b'\n")
    assert [request.task_id for request in server.tasks.requests] == ["a", "b", "c"]


def test_a_server_that_went_away_ends_it_all(run: Run, server: Any) -> None:
    server.tasks.cancel_answers = [canceled("a"), server.refusal(grpc.StatusCode.UNAVAILABLE, "gone")]
    code, out, err = run("cancel", "a", "b", "c", "-a", server.address, "--json")
    assert code == 3
    assert listed(out) == ["a"]
    assert json.loads(err)["error"]["code"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    "arguments",
    [("--data", "x", "--data-file", "y"), ("--data", "@/nowhere/y"), ("--data-file", "/nowhere/y")],
)
def test_a_body_that_cannot_be_had_is_told_before_any_call(
    run: Run, server: Any, arguments: tuple[str, ...]
) -> None:
    code, _, err = run("subscribe", "https://example.com/", "-a", server.address, *arguments)
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert server.tasks.requests == []


def cut_timeline() -> list[GetTimelineResponse]:
    gap = TimelineGap(first_sequence=3, last_sequence=8)
    pages = (([1, 2], "b"), ([9, 10], "c"), ([11], ""))
    return [
        GetTimelineResponse(
            events=[TimelineEvent(sequence=sequence) for sequence in sequences],
            next_page_token=token,
            first_sequence=9,
            gap=gap,
        )
        for sequences, token in pages
    ]


def test_a_timeline_says_once_which_events_are_missing(run: Run, server: Any) -> None:
    server.tasks.timeline_answers = cut_timeline()
    code, out, _ = run("timeline", "t", "-a", server.address)
    lines = out.splitlines()
    assert code == 0
    assert [index for index, line in enumerate(lines) if "events 3 to 8 are not kept any more" in line] == [4]

    server.tasks.timeline_answers = cut_timeline()
    code, out, err = run("timeline", "t", "--json", "-a", server.address)
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == ["1", "2", "9", "10", "11"]
    assert json.loads(err) == {"notice": "events 3 to 8 are not kept any more"}
