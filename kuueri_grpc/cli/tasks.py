"""The commands on tasks that exist: get, list, timeline, cancel, pause, resume, purge, run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer

from kuueri_grpc.cli.client import Client
from kuueri_grpc.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, CliError, report, usage_error
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json, Token, choice_option, parse_pair
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.task_view import print_tasks, state_text, task_details
from kuueri_grpc.cli.timeline_view import TimelineView, gap_text
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.task_pb2 import Task, TaskView
from kuueri_grpc.pb.task_service_pb2 import (
    CancelRequest,
    GetTaskRequest,
    GetTimelineRequest,
    ListTasksRequest,
    PauseRequest,
    PurgeRequest,
    ResumeRequest,
    RunTaskRequest,
)
from kuueri_grpc.pb.timeline_pb2 import TimelineGap

app = typer.Typer(rich_markup_mode=None)

#: Most that the server puts on a page.
_PAGE_SIZE = 1_000

TaskId = Annotated[str, typer.Argument(metavar="TASK_ID", help="Id of the task.")]
Full = Annotated[
    bool,
    typer.Option("--full", help="With the body, the values of headers and the query. It takes a full token."),
]
TaskIds = Annotated[list[str], typer.Argument(metavar="TASK_ID...", help="Ids of the tasks.")]


@app.command("get", cls=SectionedCommand)
@secured
def get(
    task_id: TaskId,
    full: Full = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Show a task: its request, its policies, its counters."""
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        request = GetTaskRequest(task_id=task_id, view=_view(full))
        task = client.call(client.tasks.GetTask, request).task
    if as_json:
        output.document(task)
    else:
        output.pairs(*task_details(task))


@app.command("list", cls=SectionedCommand)
@secured
def list_tasks(  # noqa: PLR0917  the options of a command
    state: Annotated[
        TaskState | None, choice_option(TaskState, "--state", "Only tasks in this state.")
    ] = None,
    queue: Annotated[str, typer.Option("--queue", help="Only tasks of this queue.")] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Only tasks with this label. Repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most tasks to list.")] = 50,
    all_tasks: Annotated[bool, typer.Option("--all", help="List all, however many.")] = False,
    full: Full = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """List tasks, the newest first."""
    try:
        labels = dict(map(parse_pair, label or ()))
    except UnicodeEncodeError:
        raise  # a ValueError, too; see `entry`
    except ValueError as error:
        raise usage_error(str(error)) from None
    request = ListTasksRequest(
        state=task_pb2.TaskState.Value(f"TASK_STATE_{state or 'UNSPECIFIED'}"),
        queue=queue,
        labels=labels,
    )
    output = Output(as_json)
    request.view = _view(full)
    with Client.open(address, token, output.notice) as client:
        count = _show_tasks(_pages(client, request, None if all_tasks else limit, output.notice), output)
    if request.page_token and not all_tasks:
        output.notice(f"the newest {count}; there are more: --limit N or --all")


def _view(full: bool) -> TaskView.ValueType:
    return TaskView.TASK_VIEW_FULL if full else TaskView.TASK_VIEW_BASIC


def _show_tasks(pages: Iterator[Sequence[Task]], output: Output) -> int:
    if output.as_json:
        count = 0
        for page in pages:
            for task in page:
                output.document(task)
            count += len(page)
        return count
    tasks = [task for page in pages for task in page]
    if tasks:
        print_tasks(output.console, tasks)
    else:
        output.notice("no tasks")
    return len(tasks)


def _pages(
    client: Client, request: ListTasksRequest, limit: int | None, notice: Callable[[str], None]
) -> Iterator[Sequence[Task]]:
    """Yield pages up to `limit` tasks; `request.page_token` is then that of the next page, or empty.

    `notice` is told of tasks that the server cannot read.
    """
    left = limit
    while left is None or left > 0:
        request.page_size = _PAGE_SIZE if left is None else min(left, _PAGE_SIZE)
        response = client.call(client.tasks.ListTasks, request)
        for one in response.unreadable_tasks:
            notice(one.error.message)
        yield response.tasks
        request.page_token = response.next_page_token
        if not response.next_page_token:
            return
        left = None if left is None else left - len(response.tasks)


@app.command("timeline", cls=SectionedCommand)
@secured
def timeline(
    task_id: TaskId, as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None
) -> None:
    """Show all that has happened to a task. Of more than 10,000 events, the first and the newest are kept."""
    output = Output(as_json)
    view = TimelineView(output.console)
    request = GetTimelineRequest(task_id=task_id, page_size=_PAGE_SIZE)
    with Client.open(address, token, output.notice) as client:
        while True:
            page = client.call(client.tasks.GetTimeline, request)
            for event in page.events:
                if page.HasField("gap") and event.sequence == page.first_sequence:
                    _show_gap(page.gap, view, output)
                if as_json:
                    output.document(event)
                else:
                    view.show(event)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _show_gap(gap: TimelineGap, view: TimelineView, output: Output) -> None:
    if output.as_json:
        output.notice(gap_text(gap))
    else:
        view.show_gap(gap)


@app.command("cancel", cls=SectionedCommand)
@secured
def cancel(
    task_ids: TaskIds, as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None
) -> None:
    """End tasks: no attempt starts any more, one in flight is aborted."""

    def act(client: Client, task_id: str, view: TaskView.ValueType) -> Task:
        return client.call(client.tasks.Cancel, CancelRequest(task_id=task_id, view=view)).task

    _each(task_ids, act, as_json, address, token)


@app.command("pause", cls=SectionedCommand)
@secured
def pause(
    task_ids: TaskIds, as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None
) -> None:
    """Hold tasks; each keeps the delay that remains."""

    def act(client: Client, task_id: str, view: TaskView.ValueType) -> Task:
        return client.call(client.tasks.Pause, PauseRequest(task_id=task_id, view=view)).task

    _each(task_ids, act, as_json, address, token)


@app.command("resume", cls=SectionedCommand)
@secured
def resume(
    task_ids: TaskIds, as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None
) -> None:
    """Let held tasks go on after the delay that remained."""

    def act(client: Client, task_id: str, view: TaskView.ValueType) -> Task:
        return client.call(client.tasks.Resume, ResumeRequest(task_id=task_id, view=view)).task

    _each(task_ids, act, as_json, address, token)


@app.command("run", cls=SectionedCommand)
@secured
def run(
    task_ids: TaskIds, as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None
) -> None:
    """Make tasks due now."""

    def act(client: Client, task_id: str, view: TaskView.ValueType) -> Task:
        return client.call(client.tasks.RunTask, RunTaskRequest(task_id=task_id, view=view)).task

    _each(task_ids, act, as_json, address, token)


@app.command("purge", cls=SectionedCommand)
@secured
def purge(
    task_ids: TaskIds, as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None
) -> None:
    """Delete tasks that have ended or are paused, with their history."""

    def act(client: Client, task_id: str, _view: TaskView.ValueType) -> None:
        client.call(client.tasks.Purge, PurgeRequest(task_id=task_id))

    _each(task_ids, act, as_json, address, token)


def _each(
    task_ids: Sequence[str],
    act: Callable[[Client, str, TaskView.ValueType], Task | None],
    as_json: bool,
    address: str,
    token: str | None,
) -> None:
    """Act on each task and print it; one that is refused leaves the others to their turn.

    Raises:
        CliError: The only task was refused, or the server cannot be reached.
        typer.Exit: Some were refused, and have been reported.
    """
    output = Output(as_json)
    has_refusal = False
    with Client.open(address, token, output.notice) as client:
        for task_id in task_ids:
            try:
                task = act(client, task_id, output.view(TaskView.TASK_VIEW_MINIMAL))
            except CliError as error:
                if len(task_ids) == 1 or error.exit_code == EXIT_UNAVAILABLE:
                    raise
                report(error, as_json)
                has_refusal = True
            else:
                _show_outcome(task_id, task, output)
    if has_refusal:
        raise typer.Exit(EXIT_FAILED)


def _show_outcome(task_id: str, task: Task | None, output: Output) -> None:
    if output.as_json:
        output.document({"task_id": task_id, "purged": True} if task is None else task)
    else:
        output.line(f"{task_id}  ", "purged" if task is None else state_text(task))
