"""Answers that have tasks or events in them, none of which is larger than a client takes.

A task that would make an answer larger comes in a smaller view, which its `view` says; a page ends before the
task or event that would.
"""

from collections.abc import Sequence

from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.domain.task import Task
from kuueri_grpc.domain.timeline import TimelineEvent
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.ports import TaskPage
from kuueri_grpc.service.convert import to_event, write_task
from kuueri_grpc.service.errors import to_status
from kuueri_grpc.service.views import BASIC, FULL, MINIMAL, View

#: Less than the 4 MiB (4,194,304 bytes) that clients take by default: a message has more than its tasks.
MAX_ANSWER_BYTES = 4_000_000
_SMALLER = {FULL: BASIC, BASIC: MINIMAL}


def to_task(task: Task, view: View) -> task_pb2.Task:
    """Return a task in a view, or in the largest smaller one that fits into an answer."""
    message = task_pb2.Task()
    write_fitting(message, task, view)
    return message


def write_fitting(message: task_pb2.Task, task: Task, view: View, room: int = MAX_ANSWER_BYTES) -> None:
    """Write a task into an empty message, in the largest view up to `view` that has at most `room` bytes.

    MINIMAL, which has less than 1,000, counts as fitting.
    """
    while True:
        if view != FULL or len(task.spec.target.body) <= room:
            write_task(message, task, view)
            if view == MINIMAL or message.ByteSize() <= room:
                return
            message.Clear()
        view = _SMALLER[view]


def batch_response(results: Sequence[Task | KuueriError], view: View) -> pb.BatchSubscribeResponse:
    """Return the answer to a batch, its tasks in the largest view up to `view` that fits for all of them.

    An error has less than 4,000 bytes, see `errors`: as many as a batch has tasks are no larger either.
    """
    body_bytes = 0
    if view == FULL:
        body_bytes = sum(len(result.spec.target.body) for result in results if isinstance(result, Task))
    response = pb.BatchSubscribeResponse()
    while True:
        if (view != FULL or body_bytes <= MAX_ANSWER_BYTES) and _write_results(response, results, view):
            return response
        response.Clear()
        view = _SMALLER[view]


def _write_results(
    response: pb.BatchSubscribeResponse, results: Sequence[Task | KuueriError], view: View
) -> bool:
    """Write the results, and return True, unless they become too large."""
    size = 0
    for result in results:
        written = response.results.add()
        if isinstance(result, KuueriError):
            written.error.CopyFrom(to_status(result))
        else:
            write_task(written.task, result, view)
        if view != MINIMAL:
            size += written.ByteSize()
            if size > MAX_ANSWER_BYTES:
                return False
    return True


def list_response(page: TaskPage, view: View) -> tuple[pb.ListTasksResponse, bool]:
    """Return the answer with the tasks of a page that fit, at least one, and whether all of them do."""
    response = pb.ListTasksResponse()
    for error in page.unreadable:
        response.unreadable_tasks.add(task_id=error.task_id, error=to_status(error))
    size = response.ByteSize()
    for i, task in enumerate(page.tasks):
        message = response.tasks.add()
        if i == 0:
            write_fitting(message, task, view, MAX_ANSWER_BYTES - size)
        else:
            write_task(message, task, view)
        size += message.ByteSize()
        if i > 0 and size > MAX_ANSWER_BYTES:
            del response.tasks[i:]
            return response, False
    return response, True


def timeline_response(events: Sequence[TimelineEvent]) -> pb.GetTimelineResponse:
    """Return the answer with the events that fit, at least one."""
    response = pb.GetTimelineResponse(events=[to_event(event) for event in events])
    if response.ByteSize() > MAX_ANSWER_BYTES:
        size = 0
        for i, event in enumerate(response.events):
            size += event.ByteSize()
            if i > 0 and size > MAX_ANSWER_BYTES:
                del response.events[i:]
                break
    return response
