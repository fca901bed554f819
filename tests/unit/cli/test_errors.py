"""Errors as people and programs get them, from what a server answers on the wire."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from kuueri_grpc.cli.client import Client, Connection
from kuueri_grpc.cli.errors import CliError, Violation, as_document, as_text
from kuueri_grpc.pb.task_service_pb2 import GetTaskRequest

Run = Callable[..., tuple[int, str, str]]


def refused(server: Any, refusal: Any, token_source: str = "") -> CliError:
    server.tasks.get_answers.append(refusal)
    token = "kq_secret" if token_source else None
    connection = Connection(server.address, token, token_source)
    with Client(connection) as client, pytest.raises(CliError) as raised:
        client.call(client.tasks.GetTask, GetTaskRequest(task_id="t"))
    return raised.value


def info(server: Any, reason: str) -> Any:
    return server.details.ErrorInfo(reason=reason, domain="tasks.kuueri")


def test_message_reason_and_every_violation(server: Any) -> None:
    violations = [
        server.details.BadRequest.FieldViolation(field="task.queue", description="is too long"),
        server.details.BadRequest.FieldViolation(field="task.http_target.url", description="is missing"),
    ]
    error = refused(
        server,
        server.refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "2 fields are not valid: task.queue is too long; task.http_target.url is missing",
            (server.details.BadRequest(field_violations=violations), info(server, "INVALID_FIELD")),
        ),
    )
    assert error.exit_code == 1
    assert error.code == "INVALID_ARGUMENT"
    assert error.reason == "INVALID_FIELD"
    assert error.violations == (
        Violation("task.queue", "is too long"),
        Violation("task.http_target.url", "is missing"),
    )
    assert as_text(error) == (
        "error: 2 fields are not valid\n  task.queue: is too long\n  task.http_target.url: is missing"
    )
    assert as_document(error)["error"] == {
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_FIELD",
        "message": "2 fields are not valid: task.queue is too long; task.http_target.url is missing",
        "violations": [
            {"field": "task.queue", "description": "is too long"},
            {"field": "task.http_target.url", "description": "is missing"},
        ],
    }


def test_a_message_that_does_not_hold_the_violations_is_shown_whole() -> None:
    error = CliError("odd: request", violations=[Violation("a", "is bad")])
    assert as_text(error) == "error: odd: request\n  a: is bad"


def test_without_a_token_the_hint_is_how_to_get_one(server: Any) -> None:
    refusal = server.refusal(grpc.StatusCode.UNAUTHENTICATED, "no token", (info(server, "TOKEN_MISSING"),))
    error = refused(server, refusal)
    assert error.hint.startswith(f"there is no token for {server.address}: `kuueri project register")


def test_with_a_refused_token_the_hint_is_where_it_came_from(server: Any) -> None:
    refusal = server.refusal(grpc.StatusCode.UNAUTHENTICATED, "bad token", (info(server, "TOKEN_INVALID"),))
    error = refused(server, refusal, "KUUERI_TOKEN")
    assert error.hint.startswith("the token came from KUUERI_TOKEN; ")
    assert "kq_secret" not in as_text(error)


def test_where_the_server_says_when_to_try_again_the_hint_does(server: Any) -> None:
    retry = server.details.RetryInfo()
    retry.retry_delay.FromMilliseconds(1_500)
    refusal = server.refusal(
        grpc.StatusCode.UNAVAILABLE, "the store does not serve", (info(server, "STORE_UNAVAILABLE"), retry)
    )
    error = refused(server, refusal)
    assert (error.message, error.hint) == ("the store does not serve", "try again in 1.5s")
    assert error.exit_code == 3


def test_a_resume_token_that_is_too_old_has_a_way_on(server: Any) -> None:
    refusal = server.refusal(grpc.StatusCode.OUT_OF_RANGE, "too old", (info(server, "RESUME_TOKEN_TOO_OLD"),))
    assert refused(server, refusal).hint == "watch again without --resume-token"


def test_an_error_without_details_has_its_message(server: Any) -> None:
    error = refused(server, server.refusal(grpc.StatusCode.NOT_FOUND, "no task 't'"))
    assert (error.code, error.reason, error.message, error.hint) == ("NOT_FOUND", "", "no task 't'", "")
    assert error.exit_code == 1


def test_an_error_without_a_message_has_its_code(server: Any) -> None:
    assert refused(server, server.refusal(grpc.StatusCode.ABORTED, "")).message == "ABORTED"


def test_details_that_cannot_be_read_are_passed_over(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Any, context: Any) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(self.code, self.message)

    monkeypatch.setattr(server.refusal, "abort", unreadable)
    error = refused(server, server.refusal(grpc.StatusCode.NOT_FOUND, "no task"))
    assert (error.message, error.reason) == ("no task", "")


def test_a_server_that_is_not_there(run: Run, unused_port: int) -> None:
    address = f"127.0.0.1:{unused_port}"
    code, out, err = run("get", "t", "-a", address)
    assert (code, out) == (3, "")
    assert err.splitlines() == [
        f"error: cannot reach a server at {address}: Connection refused",
        f"hint: is `kuueri serve` running at {address}? --address or KUUERI_ADDRESS name another place",
    ]


def test_a_server_that_does_not_answer(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kuueri_grpc.cli.client.CALL_TIMEOUT_S", 0.1)
    server.tasks.get_answers.append(server.silence())
    with Client(Connection(server.address)) as client, pytest.raises(CliError) as raised:
        client.call(client.tasks.GetTask, GetTaskRequest(task_id="t"))
    assert raised.value.message == f"no answer in time from {server.address}"
    assert raised.value.exit_code == 3


def test_errors_are_json_on_standard_error_where_json_was_asked_for(run: Run, server: Any) -> None:
    server.tasks.get_answers.append(server.refusal(grpc.StatusCode.NOT_FOUND, "no task 't'"))
    code, out, err = run("get", "t", "--json", "-a", server.address)
    assert (code, out) == (1, "")
    assert json.loads(err) == {"error": {"code": "NOT_FOUND", "message": "no task 't'"}}
