"""Following a task over connections that break."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from kuueri_grpc.cli.client import Client, Connection
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.follow import LONGEST_PAUSE_MS, MAX_RECONNECTS, follow
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.watch import show
from kuueri_grpc.pb.task_pb2 import HttpTarget, Task, TaskState
from kuueri_grpc.pb.task_service_pb2 import Synced, WatchRequest, WatchResponse
from kuueri_grpc.pb.timeline_pb2 import EventType, TimelineEvent

Run = Callable[..., tuple[int, str, str]]


def snapshot(state: TaskState.ValueType = TaskState.TASK_STATE_SCHEDULED) -> WatchResponse:
    target = HttpTarget(url="https://example.com/")
    return WatchResponse(snapshot=Task(task_id="t", state=state, http_target=target), resume_token="snapshot")


def event(sequence: int, type_: EventType.ValueType = EventType.EVENT_TYPE_DISPATCHED) -> WatchResponse:
    happened = TimelineEvent(task_id="t", sequence=sequence, type=type_)
    return WatchResponse(event=happened, resume_token=f"after-{sequence}")


def synced() -> WatchResponse:
    return WatchResponse(synced=Synced(), resume_token="synced")


class Listener:
    """Follows a task on a server; keeps what it is told and how long it was to wait."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.request = WatchRequest(task_id="t")
        self.notices: list[str] = []
        self.waits: list[float] = []

    def sequences(self) -> list[int]:
        with Client(Connection(self.address)) as client:
            messages = list(follow(client, self.request, self.notices.append, self.waits.append))
        return [message.event.sequence for message in messages if message.HasField("event")]


@pytest.fixture
def listener(server: Any) -> Listener:
    return Listener(server.address)


def test_a_stream_that_ends_well_is_not_taken_up_again(server: Any, listener: Listener) -> None:
    server.tasks.watch_answers = [[snapshot(), event(1), synced(), event(2)]]
    assert listener.sequences() == [1, 2]
    assert listener.request.resume_token == "after-2"
    assert (listener.notices, listener.waits) == ([], [])


def test_a_broken_stream_goes_on_after_the_last_message(server: Any, listener: Listener) -> None:
    gone = server.refusal(grpc.StatusCode.UNAVAILABLE)
    server.tasks.watch_answers = [
        [snapshot(), event(1), event(2), gone],
        [gone],
        [snapshot(), synced(), event(3), gone],
        [snapshot(), event(4)],
    ]
    assert listener.sequences() == [1, 2, 3, 4]
    tokens = [request.resume_token for request in server.tasks.requests]
    assert tokens == ["", "after-2", "after-2", "after-3"]
    assert listener.notices == ["the connection broke off; trying to go on from there"] * 2
    assert len(listener.waits) == 3


def test_it_waits_longer_each_time_and_gives_up_in_the_end(server: Any, listener: Listener) -> None:
    gone = server.refusal(grpc.StatusCode.UNAVAILABLE, "gone")
    server.tasks.watch_answers = [[snapshot(), gone], *([gone] for _ in range(MAX_RECONNECTS))]
    with pytest.raises(CliError, match="gone") as raised:
        listener.sequences()
    assert raised.value.exit_code == 3
    assert len(listener.waits) == MAX_RECONNECTS
    assert 0.125 <= listener.waits[0] <= 0.25
    assert all(2.5 <= wait <= 5 for wait in listener.waits[5:])


def test_a_message_makes_the_wait_short_again(server: Any, listener: Listener) -> None:
    gone = server.refusal(grpc.StatusCode.UNAVAILABLE)
    server.tasks.watch_answers = [[snapshot(), gone], [gone], [gone], [synced(), gone], [synced()]]
    listener.sequences()
    assert listener.waits[-1] <= 0.25 < listener.waits[-2]


@pytest.mark.parametrize(("asked_ms", "expected_s"), [(7_000, 7.0), (3_600_000, LONGEST_PAUSE_MS / 1_000)])
def test_it_waits_as_long_as_the_server_asks_within_reason(
    server: Any, listener: Listener, asked_ms: int, expected_s: float
) -> None:
    retry = server.details.RetryInfo()
    retry.retry_delay.FromMilliseconds(asked_ms)
    gone = server.refusal(grpc.StatusCode.UNAVAILABLE, details=(retry,))
    server.tasks.watch_answers = [[snapshot(), gone], [synced()]]
    listener.sequences()
    assert listener.waits == [expected_s]


def test_a_server_that_was_never_there_is_not_waited_for(server: Any, listener: Listener) -> None:
    server.tasks.watch_answers = [[server.refusal(grpc.StatusCode.UNAVAILABLE, "gone")]]
    with pytest.raises(CliError, match="gone"):
        listener.sequences()
    assert listener.waits == []


def test_another_error_ends_it(server: Any, listener: Listener) -> None:
    server.tasks.watch_answers = [[snapshot(), server.refusal(grpc.StatusCode.OUT_OF_RANGE, "too old")]]
    with pytest.raises(CliError, match="too old") as raised:
        listener.sequences()
    assert raised.value.exit_code == 1
    assert listener.waits == []


# --- the command ------------------------------------------------------------------------------


def test_watch_prints_a_row_an_event(run: Run, server: Any) -> None:
    server.tasks.watch_answers = [[snapshot(), event(1), synced(), event(2, EventType.EVENT_TYPE_FAILED)]]
    code, out, err = run("watch", "t", "-a", server.address)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "t  SCHEDULED  POST https://example.com/"
    assert [line.split()[1:3] for line in lines[-2:]] == [["1", "DISPATCHED"], ["2", "FAILED"]]


def test_the_snapshot_of_a_stream_that_was_taken_up_again_is_not_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ending = show(
        [snapshot(), event(1), snapshot(), event(2, EventType.EVENT_TYPE_EXPIRED)], Output(as_json=False)
    )
    assert ending == "EXPIRED"
    assert capsys.readouterr().out.count("SCHEDULED") == 1


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([snapshot(), event(1, EventType.EVENT_TYPE_COMPLETED)], 0),
        ([snapshot(), event(1, EventType.EVENT_TYPE_FAILED)], 1),
        ([snapshot(), event(1, EventType.EVENT_TYPE_CANCELED)], 1),
        ([snapshot(TaskState.TASK_STATE_COMPLETED), synced()], 0),
        ([snapshot(TaskState.TASK_STATE_EXPIRED), synced()], 1),
    ],
)
def test_the_exit_status_is_that_of_the_task_if_asked_for(
    run: Run, server: Any, messages: list[WatchResponse], expected: int
) -> None:
    server.tasks.watch_answers = [messages, list(messages)]
    assert run("watch", "t", "-a", server.address)[0] == 0
    assert run("watch", "t", "-a", server.address, "--exit-status")[0] == expected


def test_json_has_every_message_a_line(run: Run, server: Any) -> None:
    server.tasks.watch_answers = [[snapshot(), event(1), synced()]]
    _, out, _ = run("watch", "t", "-a", server.address, "--json", "--resume-token", "mine")
    documents = [json.loads(line) for line in out.splitlines()]
    assert [next(iter(document)) for document in documents] == ["snapshot", "event", "synced"]
    assert documents[1]["event"]["sequence"] == "1"
    assert documents[1]["resume_token"] == "after-1"
    assert server.tasks.requests[0].resume_token == "mine"


def test_ctrl_c_says_how_to_go_on(run: Run, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: object, _event: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kuueri_grpc.cli.timeline_view.TimelineView.show", interrupted)
    server.tasks.watch_answers = [[snapshot(), event(1), event(2)]]
    code, _, err = run("watch", "t", "-a", server.address)
    assert code == 130
    assert err == f"go on with: kuueri watch t --resume-token after-1 --address {server.address}\n"
