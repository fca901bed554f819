"""gRPC errors as errors of the command line, with a hint on what to do."""

from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc_status import rpc_status

from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, CliError, Violation

Detail = TypeVar("Detail", bound=Message)

_REGISTER = "`kuueri project register --email YOU@EXAMPLE.COM`"
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

#: What there is in gRPC's words for a handshake that failed -> (that for people, what to do).
_TLS_FAULTS = {
    "CERTIFICATE_VERIFY_FAILED": (
        "its certificate is not of an authority that is trusted here",
        "--tls-ca FILE names the authority that it comes from",
    ),
    "WRONG_VERSION_NUMBER": (
        "it does not speak TLS",
        "--insecure calls a server in plain text, token and all",
    ),
    "Socket closed": (
        "it closed the connection",
        "it may speak TLS alone (https://HOST:PORT, --tls-ca), or want a certificate (--tls-cert, --tls-key)",
    ),
}


def to_cli_error(error: grpc.RpcError, address: str, token_source: str) -> CliError:
    """Return what to tell the caller. `token_source` is where the token came from, empty for no token."""
    status = _status(error)
    info = _detail(status, ErrorInfo())
    faults = _detail(status, BadRequest())
    reason = info.reason if info else ""
    return CliError(
        _message(error, reason, address),
        code=error.code().name,
        reason=reason,
        violations=[Violation(f.field, f.description) for f in faults.field_violations] if faults else (),
        hint=_hint(error, reason, address, token_source),
        exit_code=EXIT_UNAVAILABLE if error.code() in _UNREACHABLE else EXIT_FAILED,
    )


def retry_delay_ms(error: grpc.RpcError) -> int | None:
    """Return how long the server asks to wait before the next try; None if it does not say."""
    retry = _detail(_status(error), RetryInfo())
    return retry.retry_delay.ToMilliseconds() if retry else None


def _message(error: grpc.RpcError, reason: str, address: str) -> str:
    details = error.details() or error.code().name
    # Without a reason it was not the server that spoke, but the library on this side of the wire.
    if not reason and error.code() is grpc.StatusCode.UNAVAILABLE:
        cause = details.rpartition("; last error: ")[2].rpartition("Failed to connect to remote host: ")[2]
        cause = next((text for mark, (text, _) in _TLS_FAULTS.items() if mark in cause), cause)
        return f"cannot reach a server at {address}: {cause}"
    if not reason and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer in time from {address}"
    return details


def _hint(error: grpc.RpcError, reason: str, address: str, token_source: str) -> str:
    retry_ms = retry_delay_ms(error)
    if not reason and error.code() in _UNREACHABLE:
        for mark, (_, hint) in _TLS_FAULTS.items():
            if mark in (error.details() or ""):
                return hint
        return f"is `kuueri serve` running at {address}? --address or KUUERI_ADDRESS name another place"
    if reason == "ADMIN_TOKEN_NOT_SET":
        return ""  # no token opens the call: the message says what does
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return _token_hint(error.code(), address, token_source)
    if reason == "RESUME_TOKEN_TOO_OLD":
        return "watch again without --resume-token"
    return "" if retry_ms is None else f"try again in {format_duration_ms(retry_ms)}"


def _token_hint(code: grpc.StatusCode, address: str, token_source: str) -> str:
    if not token_source:
        return f"there is no token for {address}: {_REGISTER} gets one, --token or KUUERI_TOKEN give one"
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return f"the token came from {token_source}; `kuueri project token create --scope ...` makes others"
    return f"the token came from {token_source}; {_REGISTER} gets another one"


def _status(error: grpc.RpcError) -> Status | None:
    """The error's `google.rpc.Status`; None without a readable one."""
    try:
        # The errors that stubs raise are calls too.
        return rpc_status.from_call(cast("grpc.Call", error))
    except (DecodeError, ValueError):
        return None


def _detail(status: Status | None, detail: Detail) -> Detail | None:
    """Fill `detail` from the first of the status's details that is of its type."""
    for packed in status.details if status else ():
        if packed.Unpack(detail):
            return detail
    return None
