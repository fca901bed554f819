"""The one place where errors become gRPC statuses, with the `google.rpc` details of the contract.

| error                                        | code                | details besides ErrorInfo  |
|----------------------------------------------|---------------------|----------------------------|
| InvalidFields                                | INVALID_ARGUMENT    | BadRequest                 |
| CursorInvalid                                | INVALID_ARGUMENT    | BadRequest                 |
| TaskNotFound, TaskPurged                     | NOT_FOUND           | ResourceInfo               |
| ProjectNotFound, TokenNotFound               | NOT_FOUND           | ResourceInfo               |
| TaskExists, RequestIdReused, EmailExists     | ALREADY_EXISTS      | ResourceInfo (not e-mails) |
| TaskEnded, TaskRunning                       | FAILED_PRECONDITION | PreconditionFailure        |
| LastFullToken                                | FAILED_PRECONDITION | PreconditionFailure        |
| QuotaExceeded, TooManyTokens, TooManyWatches | RESOURCE_EXHAUSTED  | QuotaFailure               |
| TooManySigningSecrets                        | RESOURCE_EXHAUSTED  | QuotaFailure               |
| RateLimited                                  | RESOURCE_EXHAUSTED  | QuotaFailure, RetryInfo    |
| Unauthenticated                              | UNAUTHENTICATED     |                            |
| ScopeMissing, AdminTokenNotSet               | PERMISSION_DENIED   |                            |
| ScopeNotDeclared                             | PERMISSION_DENIED   |                            |
| TaskUnreadable                               | DATA_LOSS           | ResourceInfo               |
| CursorTooOld                                 | OUT_OF_RANGE        |                            |
| StoreUnavailable, Draining, WatcherTooSlow   | UNAVAILABLE         | RetryInfo                  |
| ConnectionAged, MessageLate                  | UNAVAILABLE         | RetryInfo                  |
| MessageTooLarge                              | RESOURCE_EXHAUSTED  |                            |
| TooManyOpenStreams                           | RESOURCE_EXHAUSTED  | QuotaFailure               |
| anything else                                | INTERNAL            |                            |

Clients take 8 KiB of trailers by default, base64 and all, and fail a call with more for another reason:
so the texts are bounded here, and the number of faults that are named.
"""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kuueri_grpc.domain.errors import (
    AdminTokenNotSet,
    ConnectionAged,
    CursorInvalid,
    CursorTooOld,
    Draining,
    EmailExists,
    FullScopeNeeded,
    KuueriError,
    LastFullToken,
    ProjectNotFound,
    QuotaExceeded,
    RateLimited,
    ReadScopeNeeded,
    RequestIdReused,
    StoreUnavailable,
    SubscribeScopeNeeded,
    TaskEnded,
    TaskExists,
    TaskNotFound,
    TaskPurged,
    TaskRunning,
    TaskUnreadable,
    TokenNotFound,
    TooManySigningSecrets,
    TooManyTokens,
    TooManyWatches,
    Unauthenticated,
    WatcherTooSlow,
    WrongState,
)
from kuueri_grpc.pb import error_reason_pb2 as reasons
from kuueri_grpc.pb import project_pb2, task_pb2, token_pb2
from kuueri_grpc.service.auth import TokenMissing
from kuueri_grpc.service.message_errors import (
    MessageLate,
    MessageTooLarge,
    ScopeNotDeclared,
    TooManyOpenStreams,
)
from kuueri_grpc.service.times import to_duration
from kuueri_grpc.service.tokens import ResumeTokenInvalid
from kuueri_grpc.service.violations import InvalidFields

DOMAIN = "tasks.kuueri"
#: When to call again after the store did not answer: about as long as its restart takes.
STORE_RETRY_SECONDS = 1
_MAX_MESSAGE_LENGTH = 600
_MAX_VIOLATION_BYTES = 3_000
_REASON_PREFIX = "ERROR_REASON_"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Mapping:
    code: int
    reason: reasons.ErrorReason.ValueType
    details: Callable[[Any], Iterable[Message]] = lambda _: ()


def _bad_request(error: InvalidFields) -> Iterable[Message]:
    detail = error_details_pb2.BadRequest()
    size = 0
    for fault in error.violations:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=fault.field, description=fault.description
        )
        size += violation.ByteSize()
        if size > _MAX_VIOLATION_BYTES:
            break
        detail.field_violations.append(violation)
    unnamed = error.count - len(detail.field_violations)
    if unnamed:
        detail.field_violations.add(description=f"and {unnamed:,} more; correct the ones above first")
    yield detail


def _bad_token(field: str) -> Callable[[CursorInvalid], Iterable[Message]]:
    def details(error: CursorInvalid) -> Iterable[Message]:
        detail = error_details_pb2.BadRequest()
        detail.field_violations.add(field=field, description=str(error))
        yield detail

    return details


def _task_resource(
    error: TaskNotFound | TaskPurged | TaskExists | RequestIdReused | TaskUnreadable,
) -> Iterable[Message]:
    yield error_details_pb2.ResourceInfo(
        resource_type=task_pb2.Task.DESCRIPTOR.full_name,
        resource_name=error.task_id,
        description=str(error),
    )


def _project_resource(error: ProjectNotFound) -> Iterable[Message]:
    yield error_details_pb2.ResourceInfo(
        resource_type=project_pb2.Project.DESCRIPTOR.full_name,
        resource_name=error.project_id,
        description=str(error),
    )


def _token_resource(error: TokenNotFound) -> Iterable[Message]:
    yield error_details_pb2.ResourceInfo(
        resource_type=token_pb2.AccessToken.DESCRIPTOR.full_name,
        resource_name=error.key_id,
        description=str(error),
    )


def _last_token(error: LastFullToken) -> Iterable[Message]:
    detail = error_details_pb2.PreconditionFailure()
    detail.violations.add(type="LAST_FULL_TOKEN", subject=error.key_id, description=str(error))
    yield detail


def _task_state(error: WrongState) -> Iterable[Message]:
    detail = error_details_pb2.PreconditionFailure()
    detail.violations.add(type="TASK_STATE", subject=error.task_id, description=str(error))
    yield detail


def _quota(error: QuotaExceeded) -> Iterable[Message]:
    detail = error_details_pb2.QuotaFailure()
    detail.violations.add(subject=f"project:{error.project_id}", description=str(error))
    yield detail


def _rate(error: RateLimited) -> Iterable[Message]:
    detail = error_details_pb2.QuotaFailure()
    detail.violations.add(subject=error.subject, description=str(error))
    yield detail
    yield error_details_pb2.RetryInfo(retry_delay=to_duration(error.retry_ms))


def _open_streams(error: TooManyOpenStreams) -> Iterable[Message]:
    detail = error_details_pb2.QuotaFailure()
    detail.violations.add(subject=f"peer:{error.peer}", description=str(error))
    yield detail


def _retry(seconds: int) -> Callable[[KuueriError], Iterable[Message]]:
    def details(_: KuueriError) -> Iterable[Message]:
        yield error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))

    return details


#: By the nearest class of an error.
_MAPPINGS: Mapping[type[KuueriError], _Mapping] = {
    InvalidFields: _Mapping(code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_FIELD, _bad_request),
    CursorInvalid: _Mapping(
        code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_PAGE_TOKEN_INVALID, _bad_token("page_token")
    ),
    ResumeTokenInvalid: _Mapping(
        code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_RESUME_TOKEN_INVALID, _bad_token("resume_token")
    ),
    CursorTooOld: _Mapping(code_pb2.OUT_OF_RANGE, reasons.ERROR_REASON_RESUME_TOKEN_TOO_OLD),
    TaskNotFound: _Mapping(code_pb2.NOT_FOUND, reasons.ERROR_REASON_TASK_NOT_FOUND, _task_resource),
    TaskPurged: _Mapping(code_pb2.NOT_FOUND, reasons.ERROR_REASON_TASK_PURGED, _task_resource),
    ProjectNotFound: _Mapping(code_pb2.NOT_FOUND, reasons.ERROR_REASON_PROJECT_NOT_FOUND, _project_resource),
    TokenNotFound: _Mapping(code_pb2.NOT_FOUND, reasons.ERROR_REASON_TOKEN_NOT_FOUND, _token_resource),
    TaskExists: _Mapping(code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_TASK_EXISTS, _task_resource),
    RequestIdReused: _Mapping(
        code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_REQUEST_ID_REUSED, _task_resource
    ),
    EmailExists: _Mapping(code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_EMAIL_EXISTS),
    TaskEnded: _Mapping(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_TASK_ENDED, _task_state),
    TaskRunning: _Mapping(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_TASK_RUNNING, _task_state),
    QuotaExceeded: _Mapping(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_QUOTA_TASKS_IN_QUEUE, _quota),
    TooManyTokens: _Mapping(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_QUOTA_TOKENS, _quota),
    RateLimited: _Mapping(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_RATE_LIMITED, _rate),
    LastFullToken: _Mapping(code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_LAST_FULL_TOKEN, _last_token),
    FullScopeNeeded: _Mapping(code_pb2.PERMISSION_DENIED, reasons.ERROR_REASON_SCOPE_FULL_NEEDED),
    SubscribeScopeNeeded: _Mapping(code_pb2.PERMISSION_DENIED, reasons.ERROR_REASON_SCOPE_SUBSCRIBE_NEEDED),
    ReadScopeNeeded: _Mapping(code_pb2.PERMISSION_DENIED, reasons.ERROR_REASON_SCOPE_READ_NEEDED),
    AdminTokenNotSet: _Mapping(code_pb2.PERMISSION_DENIED, reasons.ERROR_REASON_ADMIN_TOKEN_NOT_SET),
    TaskUnreadable: _Mapping(code_pb2.DATA_LOSS, reasons.ERROR_REASON_TASK_UNREADABLE, _task_resource),
    TooManyWatches: _Mapping(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_QUOTA_WATCHES, _quota),
    TooManySigningSecrets: _Mapping(
        code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_QUOTA_SIGNING_SECRETS, _quota
    ),
    Unauthenticated: _Mapping(code_pb2.UNAUTHENTICATED, reasons.ERROR_REASON_TOKEN_INVALID),
    TokenMissing: _Mapping(code_pb2.UNAUTHENTICATED, reasons.ERROR_REASON_TOKEN_MISSING),
    StoreUnavailable: _Mapping(
        code_pb2.UNAVAILABLE, reasons.ERROR_REASON_STORE_UNAVAILABLE, _retry(STORE_RETRY_SECONDS)
    ),
    Draining: _Mapping(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_SHUTTING_DOWN, _retry(0)),
    MessageTooLarge: _Mapping(code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_MESSAGE_TOO_LARGE),
    MessageLate: _Mapping(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_MESSAGE_LATE, _retry(0)),
    TooManyOpenStreams: _Mapping(
        code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_QUOTA_OPEN_STREAMS, _open_streams
    ),
    ScopeNotDeclared: _Mapping(code_pb2.PERMISSION_DENIED, reasons.ERROR_REASON_SCOPE_NOT_DECLARED),
    ConnectionAged: _Mapping(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_CONNECTION_AGED, _retry(0)),
    WatcherTooSlow: _Mapping(code_pb2.UNAVAILABLE, reasons.ERROR_REASON_WATCHER_TOO_SLOW, _retry(0)),
}

#: Attributes of errors that `ErrorInfo.metadata` repeats, for programs.
_METADATA = ("task_id", "state", "request_id", "limit", "key_id", "scope", "scope_needed")


def reason_of(error: Exception) -> str:
    """Return the reason that `ErrorInfo` has for `error`, without the enum's prefix."""
    known = (_MAPPINGS[kind].reason for kind in type(error).__mro__ if kind in _MAPPINGS)
    return _reason_name(next(known, reasons.ERROR_REASON_INTERNAL))


def reason_names() -> list[str]:
    """Return all that `reason_of` may return."""
    values = reasons.ErrorReason.values()
    return [_reason_name(value) for value in values if value != reasons.ERROR_REASON_UNSPECIFIED]


def to_status(error: Exception) -> status_pb2.Status:
    """Return what a caller is told of `error`.

    An error that is none of the project's own is logged, and the caller told of an INTERNAL one with the
    id that it is logged under, and nothing else.
    """
    for kind in type(error).__mro__:
        if mapping := _MAPPINGS.get(kind):
            metadata = {name: str(getattr(error, name)) for name in _METADATA if hasattr(error, name)}
            return _status(mapping.code, mapping.reason, str(error), metadata, mapping.details(error))
    error_id = secrets.token_hex(6)
    _log.error(
        "internal error %s", error_id, exc_info=error, extra={"event": "internal_error", "error_id": error_id}
    )
    text = f"internal error {error_id}; the log of the server has it under this id"
    return _status(code_pb2.INTERNAL, reasons.ERROR_REASON_INTERNAL, text, {"error_id": error_id})


def forget_frames(error: Exception) -> None:
    """Let go of what the functions held that raised `error`: a message may be large.

    gRPC's end of a call is in a cycle with the error that it comes from, until the collector finds it.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


def _status(
    code: int,
    reason: reasons.ErrorReason.ValueType,
    text: str,
    metadata: Mapping[str, str],
    details: Iterable[Message] = (),
) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=_reason_name(reason), domain=DOMAIN, metadata=metadata)
    if len(text) > _MAX_MESSAGE_LENGTH:
        text = text[: _MAX_MESSAGE_LENGTH - 3] + "..."
    return status_pb2.Status(code=code, message=text, details=[_pack(detail) for detail in (info, *details)])


def _reason_name(reason: reasons.ErrorReason.ValueType) -> str:
    return reasons.ErrorReason.Name(reason).removeprefix(_REASON_PREFIX)


def _pack(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
