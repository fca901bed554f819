"""Reads requests: messages to domain values. Each function raises `InvalidFields` with every fault."""

import re
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from google.protobuf.duration_pb2 import Duration

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import HttpTarget, TaskSpec
from kuueri_grpc.pb import project_service_pb2, task_service_pb2
from kuueri_grpc.ports import NewTask, TaskFilter
from kuueri_grpc.service.enums import SCOPES, TASK_STATES
from kuueri_grpc.service.fingerprint import fingerprint
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.read_task import MAX_LABELS, check_identifier, check_label_key, read_task
from kuueri_grpc.service.slices import Slices
from kuueri_grpc.service.times import DAY_MS, SECOND_MS, Span, read_duration
from kuueri_grpc.service.views import BASIC, MINIMAL, View, read_view
from kuueri_grpc.service.violations import InvalidFields, Violations, shown

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1_000
GRACE = Span(0, 30 * DAY_MS, "0 to 30 days")
TOKEN_TTL = Span(SECOND_MS, 3_650 * DAY_MS, "1 second to 3,650 days")
MAX_EMAIL_LENGTH = 254
MAX_DISPLAY_NAME_LENGTH = 64
_NO_TASK = TaskSpec("", HttpTarget(""))
_SECRET_ID = re.compile(r"[A-Za-z0-9_-]{16,128}")
#: One @ between a local part and a host: whether it exists is for the mail to find out.
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[\w-]+(?:\.[\w-]+)*")


@dataclass(frozen=True, slots=True)
class Untimely:
    """A task that may not be accepted now, and may have been before: when a repeated call is to be answered.

    `fault`: what is wrong with it now, and for a call that is no repeated one.
    """

    new: NewTask
    fault: InvalidFields


Item: TypeAlias = NewTask | Untimely | InvalidFields


def read_subscribe(
    request: task_service_pb2.SubscribeRequest, limits: Limits, now_ms: int
) -> tuple[Item, View]:
    """Return the task to subscribe, and the view to answer it in."""
    violations = Violations()
    view = read_view(request.view, BASIC, violations)
    if request.HasField("task"):
        spec = read_task(request.task, "task", limits, now_ms, violations)
    else:
        spec = _NO_TASK
        violations.add("task", "is required; expected the task to subscribe")
    request_id = request.request_id
    if request_id:
        check_identifier(request_id, "request_id", violations)
    return _item(spec, request_id, None, violations), view


async def read_batch(
    request: task_service_pb2.BatchSubscribeRequest, limits: Limits, now_ms: int
) -> tuple[list[Item], View]:
    """Return, in order, each task to subscribe, or what is wrong with it, and the view to answer them in.

    Raises:
        InvalidFields: The number of tasks is outside the limits, or another field is wrong.
    """
    count, violations = len(request.tasks), Violations()
    if not 1 <= count <= limits.max_batch:
        violations.add("tasks", f"are {count:,}; expected 1 to {limits.max_batch:,}")
    request_id = request.request_id
    if request_id:
        check_identifier(request_id, "request_id", violations)
    view = read_view(request.view, MINIMAL, violations)
    violations.raise_if_any()
    slices = Slices()
    items: list[Item] = []
    for i, task in enumerate(request.tasks):
        violations = Violations()
        spec = read_task(task, f"tasks[{i}]", limits, now_ms, violations)
        items.append(_item(spec, request_id, i, violations))
        await slices.pause()
    return items, view


def _item(spec: TaskSpec, request_id: str, place: int | None, violations: Violations) -> Item:
    repeatable = bool(request_id or spec.task_id)
    if violations and (violations.lasting or not repeatable):
        return violations.error()
    new = NewTask(spec, request_id, fingerprint(spec), place) if request_id else NewTask(spec)
    return Untimely(new, violations.error()) if violations else new


def read_task_id(task_id: str) -> str:
    """Return the id in a request on one task."""
    violations = Violations()
    check_identifier(task_id, "task_id", violations)
    violations.raise_if_any()
    return task_id


class TaskRequest(Protocol):
    """A request on one task whose answer has the task."""

    task_id: str
    view: View


def read_task_request(request: TaskRequest) -> tuple[str, View]:
    """Return the id of the task, and the view to answer it in."""
    violations = Violations()
    task_id = check_identifier(request.task_id, "task_id", violations)
    view = read_view(request.view, BASIC, violations)
    violations.raise_if_any()
    return task_id, view


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What ListTasks asks for; the page token is read by `tokens`."""

    where: TaskFilter
    page_size: int
    view: View = BASIC


def read_list(request: task_service_pb2.ListTasksRequest) -> ListQuery:
    """Return the filter and the page size."""
    violations = Violations()
    page_size = _read_page_size(request.page_size, violations)
    state: TaskState | None = None
    if request.state:
        state = TASK_STATES.read(request.state, TaskState.SCHEDULED, "state", violations)
    queue: str | None = None
    if request.queue:
        queue = check_identifier(request.queue, "queue", violations)
    labels: dict[str, str] = {}
    # Counted before they are copied: they may be as many as fit into a message.
    if len(request.labels) > MAX_LABELS:
        violations.add("labels", f"are {len(request.labels):,}; at most {MAX_LABELS} are allowed")
    else:
        labels = dict(request.labels)
        for key in labels:
            check_label_key(key, "labels", violations)
    view = read_view(request.view, BASIC, violations)
    violations.raise_if_any()
    return ListQuery(TaskFilter(state, queue, labels), page_size, view)


@dataclass(frozen=True, slots=True)
class TimelineQuery:
    """What GetTimeline asks for; the page token is read by `tokens`."""

    task_id: str
    page_size: int


def read_timeline(request: task_service_pb2.GetTimelineRequest) -> TimelineQuery:
    """Return the task and the page size."""
    violations = Violations()
    task_id = check_identifier(request.task_id, "task_id", violations)
    page_size = _read_page_size(request.page_size, violations)
    violations.raise_if_any()
    return TimelineQuery(task_id, page_size)


def _read_page_size(page_size: int, violations: Violations) -> int:
    if page_size < 0:
        violations.add("page_size", f"is {page_size:,}; expected 0 (for {DEFAULT_PAGE_SIZE}) or more")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class WatchScope:
    """What to watch: one task, in a view of it, one queue, or (neither set) all tasks of the project."""

    task_id: str | None = None
    queue: str | None = None
    view: View = BASIC


def read_watch(request: task_service_pb2.WatchRequest) -> WatchScope:
    """Return what to watch."""
    violations = Violations()
    scope = request.WhichOneof("scope")
    if scope is None:
        violations.add("scope", "is required; expected one of task_id, queue and all")
    elif scope == "task_id":
        check_identifier(request.task_id, "task_id", violations)
    elif scope == "queue":
        check_identifier(request.queue, "queue", violations)
    elif not request.all:
        violations.add("all", "is false; expected true, or task_id or queue instead")
    view = read_view(request.view, BASIC, violations)
    violations.raise_if_any()
    return WatchScope(
        task_id=request.task_id if scope == "task_id" else None,
        queue=request.queue if scope == "queue" else None,
        view=view,
    )


def read_email(request: project_service_pb2.RegisterRequest) -> str:
    """Return the address to register."""
    violations = Violations()
    email = request.email
    if not email:
        violations.add("email", "is required; expected an address such as ops@example.com")
    elif len(email) > MAX_EMAIL_LENGTH:
        violations.add("email", f"has {len(email):,} characters; at most {MAX_EMAIL_LENGTH} are allowed")
    elif not _EMAIL.fullmatch(email):
        violations.add("email", f"is {shown(email)}; expected an address such as ops@example.com")
    violations.raise_if_any()
    return email


def read_limits(request: project_service_pb2.SetProjectLimitsRequest) -> tuple[str, int | None]:
    """Return the project, and how many live tasks it may have; None: as many as any other."""
    violations = Violations()
    project_id = check_identifier(request.project_id, "project_id", violations)
    limit = request.task_in_queue_limit if request.HasField("task_in_queue_limit") else None
    if limit is not None and limit < 0:
        violations.add("task_in_queue_limit", f"is {limit:,}; expected 0 or more, or unset")
    violations.raise_if_any()
    return project_id, limit


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
    if request.request_id and not _SECRET_ID.fullmatch(request.request_id):
        # Not shown: it is as good as a secret.
        violations.add(
            "request_id",
            "is too easy to guess, or long; expected 16 to 128 random characters of [A-Za-z0-9_-]",
        )
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
