"""Reads requests on projects and their credentials. Each function raises `InvalidFields` with every fault."""

import re
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.pb import project_service_pb2
from kuueri_grpc.service.enums import SCOPES
from kuueri_grpc.service.read_task import check_identifier
from kuueri_grpc.service.requests import read_page_size
from kuueri_grpc.service.times import DAY_MS, SECOND_MS, Span, read_duration
from kuueri_grpc.service.violations import Violations, shown

GRACE = Span(0, 30 * DAY_MS, "0 to 30 days")
TOKEN_TTL = Span(SECOND_MS, 3_650 * DAY_MS, "1 second to 3,650 days")
MAX_EMAIL_LENGTH = 254
MAX_DISPLAY_NAME_LENGTH = 64
_SECRET_ID = re.compile(r"[A-Za-z0-9_-]{16,128}")
#: One @ between a local part and a host: whether it exists is for the mail to find out.
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[\w-]+(?:\.[\w-]+)*")


def read_register(request: project_service_pb2.RegisterRequest) -> tuple[str, str]:
    """Return the address to register, and the request id, empty for none."""
    violations = Violations()
    email = request.email
    if not email:
        violations.add("email", "is required; expected an address such as ops@example.com")
    elif len(email) > MAX_EMAIL_LENGTH:
        violations.add("email", f"has {len(email):,} characters; at most {MAX_EMAIL_LENGTH} are allowed")
    elif not _EMAIL.fullmatch(email):
        violations.add("email", f"is {shown(email)}; expected an address such as ops@example.com")
    _check_secret_id(request.request_id, violations)
    violations.raise_if_any()
    return email, request.request_id


def _check_secret_id(request_id: str, violations: Violations) -> None:
    if request_id and not _SECRET_ID.fullmatch(request_id):
        # Not shown: it is as good as a secret.
        violations.add(
            "request_id",
            "is too easy to guess, or long; expected 16 to 128 random characters of [A-Za-z0-9_-]",
        )


def read_limits(request: project_service_pb2.SetProjectLimitsRequest) -> tuple[str, int | None]:
    """Return the project, and how many live tasks it may have; None: as many as any other."""
    violations = Violations()
    project_id = check_identifier(request.project_id, "project_id", violations)
    limit = request.task_in_queue_limit if request.HasField("task_in_queue_limit") else None
    if limit is not None and limit < 0:
        violations.add("task_in_queue_limit", f"is {limit:,}; expected 0 or more, or unset")
    violations.raise_if_any()
    return project_id, limit


def read_projects(request: project_service_pb2.ListProjectsRequest) -> tuple[str, int]:
    """Return the address to find, empty for all projects, and the page size."""
    violations = Violations()
    page_size = read_page_size(request.page_size, violations)
    if len(request.email) > MAX_EMAIL_LENGTH:
        violations.add(
            "email", f"has {len(request.email):,} characters; at most {MAX_EMAIL_LENGTH} are allowed"
        )
    violations.raise_if_any()
    return request.email, page_size


def read_subject(project_id: str, own: str | None) -> str:
    """Return the project that a call is about; `own`: that of its token, None with the admin token."""
    violations = Violations()
    if own is None:
        check_identifier(project_id, "project_id", violations)
    elif project_id not in ("", own):
        violations.add(
            "project_id",
            "is not the project of the token; expected that one or none, or the admin token of the server",
        )
    violations.raise_if_any()
    return own or project_id


def read_grace(grace: Duration | None, default_ms: int) -> int:
    """Return how long what is rotated out stays valid, in ms; `default_ms` where the field is unset."""
    if grace is None:
        return default_ms
    violations = Violations()
    grace_ms = read_duration(grace, "grace", GRACE, violations)
    violations.raise_if_any()
    return grace_ms


def read_rotation(request: project_service_pb2.RotateTokenRequest) -> tuple[int, str]:
    """Return how long the old tokens stay valid (ms), and the request id, empty for none."""
    violations = Violations()
    grace_ms = read_duration(request.grace, "grace", GRACE, violations) if request.HasField("grace") else 0
    _check_secret_id(request.request_id, violations)
    violations.raise_if_any()
    return grace_ms, request.request_id


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """What CreateToken asks for; `ttl_ms` None: for ever."""

    scope: Scope
    display_name: str
    ttl_ms: int | None


def read_create_token(request: project_service_pb2.CreateTokenRequest) -> TokenQuery:
    """Return the token to make."""
    violations = Violations()
    if not request.scope:
        violations.add("scope", f"is required; expected one of {', '.join(Scope)}")
    scope = SCOPES.read(request.scope, Scope.READ, "scope", violations)
    name = request.display_name
    if len(name) > MAX_DISPLAY_NAME_LENGTH:
        violations.add(
            "display_name", f"has {len(name):,} characters; at most {MAX_DISPLAY_NAME_LENGTH} are allowed"
        )
    elif not name.isprintable():
        violations.add("display_name", f"is {shown(name)}; expected printable characters")
    ttl_ms = read_duration(request.ttl, "ttl", TOKEN_TTL, violations) if request.HasField("ttl") else None
    violations.raise_if_any()
    return TokenQuery(scope, name, ttl_ms)


def read_key_id(key_id: str) -> str:
    """Return the key id of the token to revoke."""
    violations = Violations()
    if key_id.startswith("kq_"):
        # Not shown: it may be a whole token.
        violations.add("key_id", "is a token; expected its key id, the part between the first two _ of it")
    else:
        check_identifier(key_id, "key_id", violations)
    violations.raise_if_any()
    return key_id
