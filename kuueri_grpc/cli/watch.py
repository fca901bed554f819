"""`kuueri watch`: follow a task, a queue or all tasks live."""

from collections.abc import Iterable
from typing import Annotated

import typer

from kuueri_grpc.cli.client import Client
from kuueri_grpc.cli.errors import EXIT_FAILED, usage_error
from kuueri_grpc.cli.follow import follow
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.names import event_name, state_name
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json, Token, address_flag
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.task_view import task_line
from kuueri_grpc.cli.timeline_view import TERMINAL_EVENTS, TimelineView
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.pb.task_pb2 import TaskView
from kuueri_grpc.pb.task_service_pb2 import WatchRequest, WatchResponse

app = typer.Typer(rich_markup_mode=None)

ExitStatus = Annotated[
    bool, typer.Option("--exit-status", help="Exit with 1 if the task ends otherwise than COMPLETED.")
]


@app.command("watch", cls=SectionedCommand)
@secured
def watch(
    task_id: Annotated[str | None, typer.Argument(metavar="[TASK_ID]", help="The task to follow.")] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="Follow all tasks of a queue instead.")
    ] = None,
    follow_all: Annotated[
        bool, typer.Option("--all", help="Follow all tasks of the project instead.")
    ] = False,
    resume_token: Annotated[
        str, typer.Option("--resume-token", metavar="TOKEN", help="Go on after the message that had it.")
    ] = "",
    exit_status: ExitStatus = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Follow a task live until it ends, or a queue or all tasks until Ctrl-C.

    Prints the task's timeline from the first event, then each event as it happens; of a queue or of all
    tasks what happens from now on. When the connection breaks off it is taken up again, without a gap and
    without a repeat.
    """
    request = watch_request(task_id, queue, follow_all)
    if exit_status and task_id is None:
        raise usage_error("--exit-status goes with TASK_ID: a queue has no end")
    request.resume_token = resume_token
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        watch_task(client, request, output, exit_status)


def watch_request(task_id: str | None, queue: str | None, follow_all: bool) -> WatchRequest:
    """Return the request for the one thing that is to be followed.

    Raises:
        CliError: It is none, or more than one.
    """
    if [task_id is not None, queue is not None, follow_all].count(True) != 1:
        raise usage_error("what to follow is one of TASK_ID, --queue NAME and --all")
    if task_id is not None:
        return WatchRequest(task_id=task_id)
    return WatchRequest(queue=queue) if queue is not None else WatchRequest(all=True)


def watch_task(client: Client, request: WatchRequest, output: Output, exit_status: bool) -> None:
    """Print a task's events until it has ended, or until Ctrl-C, then with how to go on.

    Raises:
        CliError: The server refused the Watch, or stayed away.
        typer.Exit: `exit_status` is set and the task did not complete.
    """
    request.view = output.view(TaskView.TASK_VIEW_BASIC)
    try:
        ending = show(
            follow(client, request, output.notice), output, request.WhichOneof("scope") != "task_id"
        )
    except KeyboardInterrupt:
        if request.resume_token:
            command = f"kuueri watch {_scope(request)} --resume-token {request.resume_token}"
            output.notice(f"go on with: {command}{address_flag(client.connection.address)}")
        raise
    if exit_status and ending != "COMPLETED":
        raise typer.Exit(EXIT_FAILED)


def show(messages: Iterable[WatchResponse], output: Output, with_task: bool = False) -> str:
    """Print the messages of a Watch as they come; return the state that the task was last known in."""
    view = TimelineView(output.console, with_task)
    state = ""
    for message in messages:
        kind = message.WhichOneof("message")
        if output.as_json:
            output.document(message)
        elif kind == "event":
            view.show(message.event)
        elif kind == "gap":
            view.show_gap(message.gap)
        elif kind == "snapshot" and not state:
            # A stream that was taken up again has another one.
            output.line(task_line(message.snapshot))
        if kind == "snapshot":
            state = state_name(message.snapshot.state)
        elif kind == "event" and event_name(message.event.type) in TERMINAL_EVENTS:
            state = event_name(message.event.type)
    return state


def _scope(request: WatchRequest) -> str:
    match request.WhichOneof("scope"):
        case "queue":
            return f"--queue {request.queue}"
        case "all":
            return "--all"
        case _:
            return request.task_id
