"""`TaskService`: one method per call, each reading its request, running a command, writing the answer."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from kuueri_grpc.domain.errors import CursorTooOld, KuueriError, StoreUnavailable
from kuueri_grpc.domain.task import Task
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.engine.watch import WatchHub, WatchItem
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceServicer
from kuueri_grpc.ports import NO_TELEMETRY, Clock, NewTask, Telemetry
from kuueri_grpc.service import requests, tokens
from kuueri_grpc.service.answers import (
    batch_response,
    list_response,
    timeline_response,
    to_task,
    write_fitting,
)
from kuueri_grpc.service.auth import access, caller
from kuueri_grpc.service.convert import to_gap
from kuueri_grpc.service.errors import reason_of
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.outlet import Outlet
from kuueri_grpc.service.views import check_view
from kuueri_grpc.service.watching import FeedSealer, Sealer, TaskSealer, to_response

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


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
            item, view = requests.read_subscribe(request, self._limits, self._clock.now_ms())
            check_view(view, access().scope)
            (result,) = await self._accept([item])
            if isinstance(result, KuueriError):
                raise result
        except Exception as error:
            self._telemetry.tasks_refused(reason_of(error), 1)
            raise
        self._telemetry.tasks_accepted(1)
        response = pb.SubscribeResponse()
        write_fitting(response.task, result, view)
        return response

    async def BatchSubscribe(  # noqa: N802
        self, request: pb.BatchSubscribeRequest, context: Context
    ) -> pb.BatchSubscribeResponse:
        """Accept tasks, each on its own."""
        count = len(request.tasks) or len(request.requests)
        try:
            # The call itself is counted already; a batch that is too large is refused for that.
            self._throttle.charge(caller(), min(count, self._limits.max_batch) - 1)
            items, view = await requests.read_batch(request, self._limits, self._clock.now_ms())
            check_view(view, access().scope)
            results = await self._accept(items)
        except Exception as error:
            self._telemetry.tasks_refused(reason_of(error), count)
            raise
        self._count(results)
        return batch_response(results, view)

    async def _accept(self, items: Sequence[requests.Item]) -> Sequence[Task | KuueriError]:
        """Accept tasks; a result per item, in order.

        Raises:
            StoreUnavailable: the store did not answer for some, and none of the others is accepted.
        """
        project_id = caller()
        new = [item for item in items if isinstance(item, NewTask)]
        untimely = [item.new for item in items if isinstance(item, requests.Untimely)]
        accepted = iter(await self._commands.subscribe(project_id, new) if new else ())
        recalled = iter(await self._recall(project_id, untimely) if untimely else ())
        results: list[Task | KuueriError] = []
        for item in items:
            match item:
                case NewTask():
                    results.append(next(accepted))
                case requests.Untimely():
                    results.append(next(recalled) or item.fault)
                case _:
                    results.append(item)
        if not any(isinstance(result, Task) for result in results):
            for result in results:
                if isinstance(result, StoreUnavailable):
                    raise result
        return results

    async def _recall(self, project_id: str, tasks: Sequence[NewTask]) -> Sequence[Task | KuueriError | None]:
        try:
            return await self._commands.recall(project_id, tasks)
        except StoreUnavailable as error:
            return [error] * len(tasks)  # it takes no answer from those that were accepted

    def _count(self, results: Sequence[Task | KuueriError]) -> None:
        refusals = Counter(reason_of(result) for result in results if isinstance(result, KuueriError))
        for reason, count in refusals.items():
            self._telemetry.tasks_refused(reason, count)
        self._telemetry.tasks_accepted(len(results) - refusals.total())

    async def GetTask(  # noqa: N802
        self, request: pb.GetTaskRequest, context: Context
    ) -> pb.GetTaskResponse:
        """Read a task."""
        task_id, view = requests.read_task_request(request)
        check_view(view, access().scope)
        return pb.GetTaskResponse(task=to_task(await self._commands.get(caller(), task_id), view))

    async def ListTasks(  # noqa: N802
        self, request: pb.ListTasksRequest, context: Context
    ) -> pb.ListTasksResponse:
        """List tasks, the newest first, no more of them than a client takes in one message."""
        query = requests.read_list(request)
        check_view(query.view, access().scope)
        project_id, where, page_size = caller(), query.where, query.page_size
        cursor = tokens.read_list_token(request.page_token, project_id, where)
        while True:
            page = await self._commands.list(project_id, where, page_size, cursor)
            response, is_whole = list_response(page, query.view)
            if is_whole:
                break
            page_size = len(response.tasks)  # for a cursor that continues after the last one that fits
        if page.cursor is not None:
            response.next_page_token = tokens.list_token(project_id, where, page.cursor)
        return response

    async def Cancel(  # noqa: N802
        self, request: pb.CancelRequest, context: Context
    ) -> pb.CancelResponse:
        """End a task."""
        task_id, view = requests.read_task_request(request)
        return pb.CancelResponse(task=to_task(await self._commands.cancel(caller(), task_id), view))

    async def Pause(self, request: pb.PauseRequest, context: Context) -> pb.PauseResponse:  # noqa: N802
        """Hold a task."""
        task_id, view = requests.read_task_request(request)
        return pb.PauseResponse(task=to_task(await self._commands.pause(caller(), task_id), view))

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        """Let a held task go on."""
        task_id, view = requests.read_task_request(request)
        return pb.ResumeResponse(task=to_task(await self._commands.resume(caller(), task_id), view))

    async def Purge(self, request: pb.PurgeRequest, context: Context) -> pb.PurgeResponse:  # noqa: N802
        """Delete a task that is not running."""
        await self._commands.purge(caller(), requests.read_task_id(request.task_id))
        return pb.PurgeResponse()

    async def RunTask(  # noqa: N802
        self, request: pb.RunTaskRequest, context: Context
    ) -> pb.RunTaskResponse:
        """Make a task due now."""
        task_id, view, request_id = requests.read_run(request)
        task = await self._commands.run(caller(), task_id, request_id)
        return pb.RunTaskResponse(task=to_task(task, view))

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
        response = timeline_response(page.events)
        response.first_sequence = page.first_sequence
        if page.gap:
            response.gap.CopyFrom(to_gap(page.gap))
        last = response.events[-1].sequence if response.events else page.last_sequence
        if last < page.last_sequence:
            response.next_page_token = tokens.timeline_token(project_id, page.task, last)
        return response

    async def Watch(  # type: ignore[override]  # noqa: N802  of a stream, the guard asks for this form
        self, request: pb.WatchRequest, outlet: Outlet
    ) -> None:
        """Follow a task, a queue, or all tasks."""
        scope = requests.read_watch(request)
        check_view(scope.view, access().scope)
        items, sealer = await self._watched(scope, request.resume_token)
        del request  # a watch lasts, and there are many: it holds no more than it needs
        async with aclosing(items):
            async for item in items:
                response = to_response(item, self._clock, scope.view)
                response.resume_token = sealer.seal(item)
                del item
                await outlet.write(response)
                del response

    async def _watched(
        self, scope: requests.WatchScope, resume_token: str
    ) -> tuple[AsyncGenerator[WatchItem, None], Sealer]:
        project_id = caller()
        epoch = await self._projects.epoch()
        sealer: Sealer
        if scope.task_id is not None:
            of_task = tokens.WatchTokens(project_id, scope.task_id, epoch)
            sealer = TaskSealer(of_task, resume_token)
            return self._watches.watch(project_id, scope.task_id, sealer.after, sealer.mark), sealer
        sealer = FeedSealer(tokens.FeedTokens(project_id, scope.queue, epoch), resume_token)
        return self._watches.watch_project(project_id, scope.queue, sealer.after, sealer.mark), sealer
