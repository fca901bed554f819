"""Reads requests on tasks: messages to domain values. A function raises `InvalidFields` with every fault."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import HttpTarget, TaskSpec
from kuueri_grpc.pb import task_service_pb2
from kuueri_grpc.ports import NewTask, TaskFilter
from kuueri_grpc.service.enums import TASK_STATES
from kuueri_grpc.service.fingerprint import fingerprint
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.read_task import MAX_LABELS, check_identifier, check_label_key, read_task
from kuueri_grpc.service.slices import Slices
from kuueri_grpc.service.views import BASIC, MINIMAL, View, read_view
from kuueri_grpc.service.violations import InvalidFields, Violations

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1_000
_NO_TASK = TaskSpec("", HttpTarget(""))


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
    return _read_item(request, "", limits, now_ms, violations), view


def _read_item(
    request: task_service_pb2.SubscribeRequest,
    prefix: str,
    limits: Limits,
    now_ms: int,
    violations: Violations,
) -> Item:
    """Return the task of a request whose fields are named behind `prefix`."""
    if request.HasField("task"):
        spec = read_task(request.task, f"{prefix}task", limits, now_ms, violations)
    else:
        spec = _NO_TASK
        violations.add(f"{prefix}task", "is required; expected the task to subscribe")
    request_id = request.request_id
    if request_id:
        check_identifier(request_id, f"{prefix}request_id", violations)
    return _item(spec, request_id, None, violations)


async def read_batch(
    request: task_service_pb2.BatchSubscribeRequest, limits: Limits, now_ms: int
) -> tuple[list[Item], View]:
    """Return, in order, each task to subscribe, or what is wrong with it, and the view to answer them in.

    Raises:
        InvalidFields: The number of tasks is outside the limits, or another field is wrong.
    """
    violations = Violations()
    field = "requests" if request.requests else "tasks"
    count = len(getattr(request, field))
    if not 1 <= count <= limits.max_batch:
        violations.add(field, f"are {count:,}; expected 1 to {limits.max_batch:,}")
    if request.requests and request.tasks:
        violations.add("requests", f"stand beside {len(request.tasks):,} tasks; expected one of the two")
    request_id = request.request_id
    if request_id and request.requests:
        violations.add("request_id", "is set beside requests; expected one in each of them")
    elif request_id:
        check_identifier(request_id, "request_id", violations)
    view = read_view(request.view, MINIMAL, violations)
    violations.raise_if_any()
    slices = Slices()
    items: list[Item] = []
    for i, one in enumerate(request.requests):
        violations = Violations()
        if one.view:
            violations.add(f"requests[{i}].view", "is set; expected the view of the whole batch alone")
        items.append(_read_item(one, f"requests[{i}].", limits, now_ms, violations))
        await slices.pause()
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


def read_run(request: task_service_pb2.RunTaskRequest) -> tuple[str, View, str]:
    """Return the id of the task to run, the view to answer it in, and the request id, empty for none."""
    violations = Violations()
    task_id = check_identifier(request.task_id, "task_id", violations)
    view = read_view(request.view, BASIC, violations)
    if request.request_id:
        check_identifier(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return task_id, view, request.request_id


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What ListTasks asks for; the page token is read by `tokens`."""

    where: TaskFilter
    page_size: int
    view: View = BASIC


def read_list(request: task_service_pb2.ListTasksRequest) -> ListQuery:
    """Return the filter and the page size."""
    violations = Violations()
    page_size = read_page_size(request.page_size, violations)
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
    page_size = read_page_size(request.page_size, violations)
    violations.raise_if_any()
    return TimelineQuery(task_id, page_size)


def read_page_size(page_size: int, violations: Violations) -> int:
    """Return how many entries a page may have at the most."""
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
