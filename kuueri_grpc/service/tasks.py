"""`TaskService`: one method per call, each reading its request, running a command, writing the answer."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from kuueri_grpc.domain.errors import CursorTooOld, KuueriError
from kuueri_grpc.domain.task import Task
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub, WatchItem
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceServicer
from kuueri_grpc.ports import NO_TELEMETRY, Clock, NewTask, TaskPage, Telemetry
from kuueri_grpc.service import requests, tokens
from kuueri_grpc.service.auth import caller
from kuueri_grpc.service.convert import to_event, to_task, write_task
from kuueri_grpc.service.errors import reason_of, to_status
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.outlet import Outlet
from kuueri_grpc.service.violations import InvalidFields
from kuueri_grpc.service.watching import FeedSealer, Sealer, TaskSealer, to_response

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

#: What a client takes in one message unless it was told otherwise: 4 MiB, less some for the rest.
CLIENT_MESSAGE_BYTES = 4_000_000


class TaskService(TaskServiceServicer):
    """Tasks of the project that calls. Errors are those that the contract names at each call."""

    def __init__(
        self,
        commands: Commands,
        watches: WatchHub,
        projects: Projects,
        clock: Clock,
        limits: Limits,
        throttle: CallThrottle,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._commands = commands
        self._watches = watches
        self._projects = projects
        self._clock = clock
        self._limits = limits
        self._throttle = throttle
        self._telemetry = telemetry

    async def Subscribe(  # noqa: N802  the names of methods are the contract's, here and below
        self, request: pb.SubscribeRequest, context: Context
    ) -> pb.SubscribeResponse:
        """Accept a task."""
        try:
            new = requests.read_subscribe(request, self._limits, self._clock.now_ms())
            (result,) = await self._commands.subscribe(caller(), [new])
            if isinstance(result, KuueriError):
                raise result
        except Exception as error:
            self._telemetry.tasks_refused(reason_of(error), 1)
            raise
        self._telemetry.tasks_accepted(1)
        response = pb.SubscribeResponse()
        write_task(response.task, result)
        return response

    async def BatchSubscribe(  # noqa: N802
        self, request: pb.BatchSubscribeRequest, context: Context
    ) -> pb.BatchSubscribeResponse:
        """Accept tasks, each on its own."""
        count = len(request.tasks)
        try:
            # The call itself is counted already.
            self._throttle.charge(caller(), count - 1)
            items = requests.read_batch(request, self._limits, self._clock.now_ms())
            valid = [item for item in items if isinstance(item, NewTask)]
            accepted = iter(await self._commands.subscribe(caller(), valid) if valid else ())
        except Exception as error:
            self._telemetry.tasks_refused(reason_of(error), count)
            raise
        results = [item if isinstance(item, InvalidFields) else next(accepted) for item in items]
        self._count(results)
        return _batch_response(results)

    def _count(self, results: Sequence[Task | KuueriError]) -> None:
        refusals = Counter(reason_of(result) for result in results if isinstance(result, KuueriError))
        for reason, count in refusals.items():
            self._telemetry.tasks_refused(reason, count)
        self._telemetry.tasks_accepted(len(results) - refusals.total())

    async def GetTask(  # noqa: N802
        self, request: pb.GetTaskRequest, context: Context
    ) -> pb.GetTaskResponse:
        """Read a task."""
        task = await self._commands.get(caller(), requests.read_task_id(request.task_id))
        return pb.GetTaskResponse(task=to_task(task))

    async def ListTasks(  # noqa: N802
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        """List tasks, the newest first, no more of them than a client takes in one message."""
        query = requests.read_list(request)
        project_id, where, page_size = caller(), query.where, query.page_size
        cursor = tokens.read_list_token(request.page_token, project_id, where)
        while True:
            page = await self._commands.list(project_id, where, page_size, cursor)
            response = _list_response(page)
            fitting = _fitting(response)
            if fitting == len(response.tasks):
                break
            page_size = fitting  # for a cursor that continues after the last one that fits
        if page.cursor is not None:
            response.next_page_token = tokens.list_token(project_id, where, page.cursor)
        return response

    async def Cancel(  # noqa: N802
        self, request: pb.CancelRequest, context: Context
    ) -> pb.CancelResponse:
        """End a task."""
        task = await self._commands.cancel(caller(), requests.read_task_id(request.task_id))
        return pb.CancelResponse(task=to_task(task))

    async def Pause(self, request: pb.PauseRequest, context: Context) -> pb.PauseResponse:  # noqa: N802
        """Hold a task."""
        task = await self._commands.pause(caller(), requests.read_task_id(request.task_id))
        return pb.PauseResponse(task=to_task(task))

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        """Let a held task go on."""
        task = await self._commands.resume(caller(), requests.read_task_id(request.task_id))
        return pb.ResumeResponse(task=to_task(task))

    async def Purge(self, request: pb.PurgeRequest, context: Context) -> pb.PurgeResponse:  # noqa: N802
        """Delete a task that is not running."""
        await self._commands.purge(caller(), requests.read_task_id(request.task_id))
        return pb.PurgeResponse()

    async def RunTask(  # noqa: N802
        self, request: pb.RunTaskRequest, context: Context
    ) -> pb.RunTaskResponse:
        """Make a task due now."""
        task = await self._commands.run(caller(), requests.read_task_id(request.task_id))
        return pb.RunTaskResponse(task=to_task(task))

    async def GetTimeline(  # noqa: N802
        self, request: pb.GetTimelineRequest, context: Context
    ) -> pb.GetTimelineResponse:
        """Read a page of a task's events."""
        query, project_id = requests.read_timeline(request), caller()
        position = tokens.read_timeline_token(request.page_token, project_id, query.task_id)
        after = position.sequence if position else 0
        try:
            page = await self._commands.timeline(project_id, query.task_id, after, query.page_size)
        except CursorTooOld as error:
            raise tokens.PageTokenInvalid(str(error)) from error
        if position and not position.is_of(page.task):
            raise tokens.PageTokenInvalid(str(tokens.replaced(query.task_id)))
        response = pb.GetTimelineResponse(events=[to_event(event) for event in page.events])
        if page.events and page.events[-1].sequence < page.last_sequence:
            last = page.events[-1].sequence
            response.next_page_token = tokens.timeline_token(project_id, page.task, last)
        return response

    async def Watch(  # type: ignore[override]  # noqa: N802  of a stream, the guard asks for this form
        self, request: pb.WatchRequest, outlet: Outlet
    ) -> None:
        """Follow a task, a queue, or all tasks."""
        items, sealer = await self._watched(request)
        del request  # a watch lasts, and there are many: it holds no more than it needs
        async with aclosing(items):
            async for item in items:
                response = to_response(item, self._clock)
                response.resume_token = sealer.seal(item)
                del item
                await outlet.write(response)
                del response

    async def _watched(self, request: pb.WatchRequest) -> tuple[AsyncGenerator[WatchItem, None], Sealer]:
        scope, project_id = requests.read_watch(request), caller()
        epoch = await self._projects.epoch()
        sealer: Sealer
        if scope.task_id is not None:
            of_task = tokens.WatchTokens(project_id, scope.task_id, epoch)
            sealer = TaskSealer(of_task, request.resume_token)
            return self._watches.watch(project_id, scope.task_id, sealer.after, sealer.mark), sealer
        sealer = FeedSealer(tokens.FeedTokens(project_id, scope.queue, epoch), request.resume_token)
        return self._watches.watch_project(project_id, scope.queue, sealer.after, sealer.mark), sealer


def _batch_response(results: Sequence[Task | KuueriError]) -> pb.BatchSubscribeResponse:
    response = pb.BatchSubscribeResponse()
    for result in results:
        if isinstance(result, KuueriError):
            response.results.add(error=to_status(result))
        else:
            write_task(response.results.add().task, result)
    if response.ByteSize() > CLIENT_MESSAGE_BYTES:
        # Most clients would fail the call, with every task accepted: they have the bodies, leave them out.
        for item in response.results:
            if item.HasField("task"):
                item.task.http_target.ClearField("body")
    return response


def _list_response(page: TaskPage) -> pb.ListTasksResponse:
    response = pb.ListTasksResponse(tasks=[to_task(task) for task in page.tasks])
    for error in page.unreadable:
        response.unreadable_tasks.add(task_id=error.task_id, error=to_status(error))
    return response


def _fitting(response: pb.ListTasksResponse) -> int:
    """Return how many of the tasks fit into a client's message; one always does."""
    size = sum(unreadable.ByteSize() for unreadable in response.unreadable_tasks)
    for i, task in enumerate(response.tasks):
        size += task.ByteSize()
        if size > CLIENT_MESSAGE_BYTES and i > 0:
            return i
    return len(response.tasks)
