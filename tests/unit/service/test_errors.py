"""Errors as callers see them: code, text and details of every one, and never too much for a client."""

import logging
from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2  # type: ignore[import-untyped]

from kuueri_grpc.domain import errors as domain
from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.pb import error_reason_pb2
from kuueri_grpc.service import errors as service
from kuueri_grpc.service.auth import TokenMissing
from kuueri_grpc.service.errors import to_status
from kuueri_grpc.service.message_errors import (
    MessageLate,
    MessageTooLarge,
    ScopeNotDeclared,
    TooManyOpenStreams,
)
from kuueri_grpc.service.tokens import PageTokenInvalid, ResumeTokenInvalid
from kuueri_grpc.service.violations import InvalidFields, Violation, Violations

DETAILS = {
    f"type.googleapis.com/{kind.DESCRIPTOR.full_name}": kind
    for kind in (
        error_details_pb2.BadRequest,
        error_details_pb2.ErrorInfo,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.QuotaFailure,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RetryInfo,
    )
}


def details_of(status: Any) -> list[Message]:
    unpacked = []
    for detail in status.details:
        message = DETAILS[detail.type_url]()
        assert detail.Unpack(message)
        unpacked.append(message)
    return unpacked


def info(reason: str, **metadata: str) -> Message:
    made: Message = error_details_pb2.ErrorInfo(reason=reason, domain="tasks.kuueri", metadata=metadata)
    return made


def bad_request(*violations: tuple[str, str]) -> Message:
    detail: Message = error_details_pb2.BadRequest(
        field_violations=[{"field": field, "description": text} for field, text in violations]
    )
    return detail


def resource(kind: str, name: str, text: str) -> Message:
    made: Message = error_details_pb2.ResourceInfo(
        resource_type=f"kuueri.tasks.v1.{kind}", resource_name=name, description=text
    )
    return made


def precondition(task_id: str, text: str) -> Message:
    made: Message = error_details_pb2.PreconditionFailure(
        violations=[{"type": "TASK_STATE", "subject": task_id, "description": text}]
    )
    return made


NO_TASK = "no task 'a' in this project; it was never subscribed, was purged, or its history has expired"
TAKEN = (
    "task_id 'a' is taken in this project until its history expires; choose another one, leave it empty to "
    "get one, or Purge the ended task"
)
REUSED = (
    "request_id 'r' was used before with a different task (it made 'a'); "
    "a repeated call must carry the same task"
)
PURGED = (
    "request_id 'r' made task 'a' before, which was purged, or its history has expired; nothing was made "
    "now: a task that is to be carried out again needs another request_id"
)
QUOTA = (
    "project 'p' has reached its limit of 7 tasks in queue; try again when some have ended. The operator "
    "sets the limit: SERVICE.QUEUE.LIMIT, or `kuueri project limit` for one project"
)
OPEN_STREAMS = (
    "the address 192.0.2.1 has 100 streams open that need no token, the most it may; end some first"
)
NO_TOKEN = "no token 'k' in this project; it was revoked, or has run out"
LAST_TOKEN = (
    "token 'k' is the last full one of its project that does not run out; "
    "RotateToken puts another one in its place, DeleteProject ends them all"
)
TOO_MANY = "project 'p' has 100 tokens, the most it may; RevokeToken one of them first"
TOO_FAST = "project 'p' has made its 10 calls in 60 s; try again a little later"
TOO_MANY_SECRETS = str(domain.TooManySigningSecrets("p", 10))
TOO_MANY_WATCHES = (
    "project 'p' has 7 watches open on this server, the most it may; "
    "watch a queue or all tasks instead of single ones, or end some"
)
UNREADABLE = "the record of task 'a' cannot be read: why"
NEEDS = "the token has the scope {}, and this call needs {}; CreateToken makes one, called with a full token"
RETRY_IN_1_S = error_details_pb2.RetryInfo(retry_delay={"seconds": 1})
RETRY_AT_ONCE = error_details_pb2.RetryInfo(retry_delay={})

CASES: list[tuple[domain.KuueriError, int, str, list[Message]]] = [
    (
        InvalidFields([Violation("task.queue", "is 'a b'; expected x")]),
        code_pb2.INVALID_ARGUMENT,
        "task.queue is 'a b'; expected x",
        [info("INVALID_FIELD"), bad_request(("task.queue", "is 'a b'; expected x"))],
    ),
    (
        InvalidFields([Violation("a", "is 1"), Violation("b", "is 2")]),
        code_pb2.INVALID_ARGUMENT,
        "2 fields are not valid: a is 1; b is 2",
        [info("INVALID_FIELD"), bad_request(("a", "is 1"), ("b", "is 2"))],
    ),
    (
        domain.CursorInvalid("no"),
        code_pb2.INVALID_ARGUMENT,
        "no",
        [info("PAGE_TOKEN_INVALID"), bad_request(("page_token", "no"))],
    ),
    (
        PageTokenInvalid("no"),
        code_pb2.INVALID_ARGUMENT,
        "no",
        [info("PAGE_TOKEN_INVALID"), bad_request(("page_token", "no"))],
    ),
    (
        ResumeTokenInvalid("no"),
        code_pb2.INVALID_ARGUMENT,
        "no",
        [info("RESUME_TOKEN_INVALID"), bad_request(("resume_token", "no"))],
    ),
    (domain.CursorTooOld("old"), code_pb2.OUT_OF_RANGE, "old", [info("RESUME_TOKEN_TOO_OLD")]),
    (
        domain.TaskNotFound("a"),
        code_pb2.NOT_FOUND,
        NO_TASK,
        [info("TASK_NOT_FOUND", task_id="a"), resource("Task", "a", NO_TASK)],
    ),
    (
        domain.TaskPurged("r", "a"),
        code_pb2.NOT_FOUND,
        PURGED,
        [info("TASK_PURGED", request_id="r", task_id="a"), resource("Task", "a", PURGED)],
    ),
    (
        domain.ProjectNotFound("p"),
        code_pb2.NOT_FOUND,
        "no project 'p'; it was deleted, or never registered",
        [
            info("PROJECT_NOT_FOUND"),
            resource("Project", "p", "no project 'p'; it was deleted, or never registered"),
        ],
    ),
    (
        domain.TaskExists("a"),
        code_pb2.ALREADY_EXISTS,
        TAKEN,
        [info("TASK_EXISTS", task_id="a"), resource("Task", "a", TAKEN)],
    ),
    (
        domain.RequestIdReused("r", "a"),
        code_pb2.ALREADY_EXISTS,
        REUSED,
        [info("REQUEST_ID_REUSED", task_id="a", request_id="r"), resource("Task", "a", REUSED)],
    ),
    (
        domain.EmailExists("ops@example.com"),
        code_pb2.ALREADY_EXISTS,
        (
            "a project is registered for 'ops@example.com' already; use its token, or another address. If "
            "the token is lost, the operator makes another one with `kuueri admin token create`"
        ),
        [info("EMAIL_EXISTS")],
    ),
    (
        domain.TaskEnded("a", TaskState.COMPLETED, "cancel"),
        code_pb2.FAILED_PRECONDITION,
        "cannot cancel task 'a': it has ended as COMPLETED",
        [
            info("TASK_ENDED", task_id="a", state="COMPLETED"),
            precondition("a", "cannot cancel task 'a': it has ended as COMPLETED"),
        ],
    ),
    (
        domain.TaskRunning("a", TaskState.DISPATCHING, "purge"),
        code_pb2.FAILED_PRECONDITION,
        "cannot purge task 'a' while it is DISPATCHING; Cancel or Pause it first",
        [
            info("TASK_RUNNING", task_id="a", state="DISPATCHING"),
            precondition("a", "cannot purge task 'a' while it is DISPATCHING; Cancel or Pause it first"),
        ],
    ),
    (
        domain.QuotaExceeded("p", 7),
        code_pb2.RESOURCE_EXHAUSTED,
        QUOTA,
        [
            info("QUOTA_TASKS_IN_QUEUE", limit="7"),
            error_details_pb2.QuotaFailure(violations=[{"subject": "project:p", "description": QUOTA}]),
        ],
    ),
    (domain.Unauthenticated("bad"), code_pb2.UNAUTHENTICATED, "bad", [info("TOKEN_INVALID")]),
    (TokenMissing("none"), code_pb2.UNAUTHENTICATED, "none", [info("TOKEN_MISSING")]),
    (
        domain.StoreUnavailable("down"),
        code_pb2.UNAVAILABLE,
        "down",
        [info("STORE_UNAVAILABLE"), RETRY_IN_1_S],
    ),
    (
        domain.Draining(),
        code_pb2.UNAVAILABLE,
        "this server is shutting down; connect again and resume with the last token",
        [info("SHUTTING_DOWN"), RETRY_AT_ONCE],
    ),
    (
        domain.WatcherTooSlow(),
        code_pb2.UNAVAILABLE,
        "the watch does not keep up with the events; watch again with the last resume_token",
        [info("WATCHER_TOO_SLOW"), RETRY_AT_ONCE],
    ),
    (
        domain.AdminTokenNotSet(),
        code_pb2.PERMISSION_DENIED,
        str(domain.AdminTokenNotSet()),
        [info("ADMIN_TOKEN_NOT_SET")],
    ),
    (
        domain.TokenNotFound("k"),
        code_pb2.NOT_FOUND,
        NO_TOKEN,
        [info("TOKEN_NOT_FOUND", key_id="k"), resource("AccessToken", "k", NO_TOKEN)],
    ),
    (
        domain.LastFullToken("k"),
        code_pb2.FAILED_PRECONDITION,
        LAST_TOKEN,
        [
            info("LAST_FULL_TOKEN", key_id="k"),
            error_details_pb2.PreconditionFailure(
                violations=[{"type": "LAST_FULL_TOKEN", "subject": "k", "description": LAST_TOKEN}]
            ),
        ],
    ),
    (
        domain.TooManyTokens("p", 100),
        code_pb2.RESOURCE_EXHAUSTED,
        TOO_MANY,
        [
            info("QUOTA_TOKENS", limit="100"),
            error_details_pb2.QuotaFailure(violations=[{"subject": "project:p", "description": TOO_MANY}]),
        ],
    ),
    (
        domain.TooManyWatches("p", 7),
        code_pb2.RESOURCE_EXHAUSTED,
        TOO_MANY_WATCHES,
        [
            info("QUOTA_WATCHES", limit="7"),
            error_details_pb2.QuotaFailure(
                violations=[{"subject": "project:p", "description": TOO_MANY_WATCHES}]
            ),
        ],
    ),
    (
        domain.TooManySigningSecrets("p", 10),
        code_pb2.RESOURCE_EXHAUSTED,
        TOO_MANY_SECRETS,
        [
            info("QUOTA_SIGNING_SECRETS", limit="10"),
            error_details_pb2.QuotaFailure(
                violations=[{"subject": "project:p", "description": TOO_MANY_SECRETS}]
            ),
        ],
    ),
    (
        domain.RateLimited.of_project("p", 10, 60.0, 1.2345),
        code_pb2.RESOURCE_EXHAUSTED,
        TOO_FAST,
        [
            info("RATE_LIMITED"),
            error_details_pb2.QuotaFailure(violations=[{"subject": "project:p", "description": TOO_FAST}]),
            error_details_pb2.RetryInfo(retry_delay={"seconds": 1, "nanos": 235_000_000}),
        ],
    ),
    (
        domain.ConnectionAged(),
        code_pb2.UNAVAILABLE,
        "this watch has lasted as long as one connection may; watch again with the last resume_token",
        [info("CONNECTION_AGED"), RETRY_AT_ONCE],
    ),
    (
        domain.TaskUnreadable("a", "why"),
        code_pb2.DATA_LOSS,
        UNREADABLE,
        [info("TASK_UNREADABLE", task_id="a"), resource("Task", "a", UNREADABLE)],
    ),
    (
        MessageTooLarge(65_536),
        code_pb2.RESOURCE_EXHAUSTED,
        "the message of this call is too large; at most 65,536 bytes are allowed",
        [info("MESSAGE_TOO_LARGE", limit="65536")],
    ),
    (
        MessageLate(60),
        code_pb2.UNAVAILABLE,
        "the message of this call did not arrive within 60 s",
        [info("MESSAGE_LATE"), RETRY_AT_ONCE],
    ),
    (
        TooManyOpenStreams("192.0.2.1", 100),
        code_pb2.RESOURCE_EXHAUSTED,
        OPEN_STREAMS,
        [
            info("QUOTA_OPEN_STREAMS", limit="100"),
            error_details_pb2.QuotaFailure(
                violations=[{"subject": "peer:192.0.2.1", "description": OPEN_STREAMS}]
            ),
        ],
    ),
    (
        ScopeNotDeclared("TaskService/New"),
        code_pb2.PERMISSION_DENIED,
        "TaskService/New is not open to any token",
        [info("SCOPE_NOT_DECLARED")],
    ),
    *(
        (
            error(needed, Scope.READ if needed is Scope.SUBSCRIBE else Scope.SUBSCRIBE),
            code_pb2.PERMISSION_DENIED,
            text,
            [
                info(
                    f"SCOPE_{needed}_NEEDED",
                    scope="READ" if needed is Scope.SUBSCRIBE else "SUBSCRIBE",
                    scope_needed=needed,
                )
            ],
        )
        for error, needed, text in (
            (domain.FullScopeNeeded, Scope.FULL, NEEDS.format("SUBSCRIBE", "FULL")),
            (domain.SubscribeScopeNeeded, Scope.SUBSCRIBE, NEEDS.format("READ", "SUBSCRIBE or FULL")),
            (domain.ReadScopeNeeded, Scope.READ, NEEDS.format("SUBSCRIBE", "READ or FULL")),
        )
    ),
]


@pytest.mark.parametrize(
    ("error", "code", "text", "details"), CASES, ids=[type(case[0]).__name__ for case in CASES]
)
def test_status_of(error: domain.KuueriError, code: int, text: str, details: list[Message]) -> None:
    status = to_status(error)
    assert code_pb2.Code.Name(status.code) == code_pb2.Code.Name(code)
    assert status.message == text
    assert details_of(status) == details


def leaves(kind: type[domain.KuueriError]) -> set[type[domain.KuueriError]]:
    below = {leaf for child in kind.__subclasses__() for leaf in leaves(child)}
    return below or {kind}


def test_every_error_of_the_project_has_a_case() -> None:
    assert leaves(domain.KuueriError) <= {type(error) for error, *_ in CASES}


def test_every_reason_sent_is_one_of_the_contract() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert {str(getattr(details[0], "reason", "")) for _, _, _, details in CASES} <= known


def test_an_error_of_ours_is_logged_under_an_id_and_nothing_of_it_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        raise ValueError("hunter2")
    except ValueError as error:
        with caplog.at_level(logging.ERROR, service.__name__):
            status = to_status(error)
    (told,) = details_of(status)
    error_id = dict(told.metadata)["error_id"]  # type: ignore[attr-defined]
    assert told == info("INTERNAL", error_id=error_id)
    assert status.code == code_pb2.INTERNAL
    assert status.message == f"internal error {error_id}; the log of the server has it under this id"
    (record,) = caplog.records
    assert record.getMessage() == f"internal error {error_id}"
    assert record.exc_info
    assert record.exc_info[0] is ValueError


def test_a_status_with_many_faults_fits_into_what_a_client_takes() -> None:
    violations = Violations()
    for i in range(100_000):
        violations.add(f"task.http_target.headers[{i}]", "is no good " * 5)
    status = to_status(violations.error())
    # In base64 in one header, and the text once more in another, within 8 KiB.
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message) < 7_500
    assert status.message.startswith("100,000 fields are not valid: task.http_target.headers[0] is no good")
    assert status.message.endswith("...")
    _, detail = details_of(status)
    *named, last = detail.field_violations  # type: ignore[attr-defined]
    assert [fault.field for fault in named] == [f"task.http_target.headers[{i}]" for i in range(len(named))]
    assert len(named) > 20
    assert last.description == f"and {100_000 - len(named):,} more; correct the ones above first"
