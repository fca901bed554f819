"""`kuueri subscribe`: have an HTTP request made later."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kuueri_grpc.cli.client import Client
from kuueri_grpc.cli.errors import CliError, usage_error
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.instants import When, parse_when
from kuueri_grpc.cli.options import (
    DEFAULT_ADDRESS,
    Address,
    Json,
    Token,
    checked,
    choice_option,
    duration_option,
    parse_count,
)
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.request import (
    PolicyOptions,
    ScheduleOptions,
    SubscribeOptions,
    TargetOptions,
    build_request,
)
from kuueri_grpc.cli.task_view import task_line
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.cli.watch import ExitStatus, watch_task
from kuueri_grpc.domain.task import Growth, HttpMethod
from kuueri_grpc.pb.task_pb2 import TaskView
from kuueri_grpc.pb.task_service_pb2 import SubscribeRequest, WatchRequest

app = typer.Typer(rich_markup_mode=None)

_REQUEST = "Request"
_SCHEDULE = "Schedule"
_RETRY = "Retry, after an error answer"
_REPEAT = "Repeat, after a success answer"


def _when_option(flag: str, text: str, panel: str) -> object:
    return typer.Option(
        flag, metavar="TIME|+DURATION", parser=checked(parse_when), rich_help_panel=panel, help=text
    )


def _count_option(flag: str, text: str, panel: str, metavar: str = "COUNT") -> object:
    return typer.Option(flag, metavar=metavar, parser=checked(parse_count), rich_help_panel=panel, help=text)


def _pairs(flag: str, metavar: str, text: str, panel: str | None, short: str | None = None) -> object:
    names = (flag, short) if short else (flag,)
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, help=f"{text} Repeatable.")


@app.command("subscribe", cls=SectionedCommand)
@secured
def subscribe(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to send the request.")],
    *,
    method: Annotated[
        HttpMethod | None,
        choice_option(HttpMethod, "--method", "Request method; POST if not given.", _REQUEST),
    ] = None,
    header: Annotated[
        list[str] | None, _pairs("--header", "'NAME: VALUE'", "Request header.", _REQUEST, "-H")
    ] = None,
    query: Annotated[
        list[str] | None, _pairs("--query", "NAME=VALUE", "Parameter to add to the URL.", _REQUEST)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="TEXT|@FILE|-",
            rich_help_panel=_REQUEST,
            help="Request body; @FILE reads a file, - standard input.",
        ),
    ] = None,
    data_file: Annotated[
        Path | None,
        typer.Option(
            "--data-file",
            metavar="FILE|-",
            allow_dash=True,
            rich_help_panel=_REQUEST,
            help="Request body from a file, whatever its name, or from standard input.",
        ),
    ] = None,
    follow_redirects: Annotated[
        bool,
        typer.Option(
            "--follow-redirects",
            rich_help_panel=_REQUEST,
            help="Follow redirects instead of failing on them.",
        ),
    ] = False,
    attempt_timeout: Annotated[
        int | None,
        duration_option("--attempt-timeout", "Longest time for one attempt; 5m if not given.", _REQUEST),
    ] = None,
    delay: Annotated[
        int | None, duration_option("--delay", "Wait before the first attempt.", _SCHEDULE)
    ] = None,
    at: Annotated[When | None, _when_option("--at", "Instant of the first attempt.", _SCHEDULE)] = None,
    start_deadline: Annotated[
        int | None,
        duration_option(
            "--start-deadline", "Expire instead of starting later than this after it was due.", _SCHEDULE
        ),
    ] = None,
    max_retries: Annotated[
        int | None, _count_option("--max-retries", "Most retries in a run.", _RETRY)
    ] = None,
    retry_interval: Annotated[
        int | None, duration_option("--retry-interval", "First wait; 1s if not given.", _RETRY)
    ] = None,
    retry_growth: Annotated[
        Growth | None,
        choice_option(Growth, "--retry-growth", "How the waits grow; CONSTANT if not given.", _RETRY),
    ] = None,
    retry_max_interval: Annotated[
        int | None, duration_option("--retry-max-interval", "Longest wait.", _RETRY)
    ] = None,
    retry_jitter: Annotated[
        float | None,
        typer.Option(
            "--retry-jitter", metavar="0..1", rich_help_panel=_RETRY, help="Part of a wait left to chance."
        ),
    ] = None,
    retry_at: Annotated[
        When | None, _when_option("--retry-at", "One retry, at this instant.", _RETRY)
    ] = None,
    retry_max_duration: Annotated[
        int | None,
        duration_option("--retry-max-duration", "No retry later than this after the run began.", _RETRY),
    ] = None,
    retryable_status: Annotated[
        list[int] | None,
        _count_option(
            "--retryable-status",
            "Status code to retry; all error codes if not given. Repeatable.",
            _RETRY,
            metavar="CODE",
        ),
    ] = None,
    max_repeats: Annotated[int | None, _count_option("--max-repeats", "Most repetitions.", _REPEAT)] = None,
    repeat_interval: Annotated[
        int | None, duration_option("--repeat-interval", "First wait; 1s if not given.", _REPEAT)
    ] = None,
    repeat_growth: Annotated[
        Growth | None,
        choice_option(Growth, "--repeat-growth", "How the waits grow; CONSTANT if not given.", _REPEAT),
    ] = None,
    repeat_max_interval: Annotated[
        int | None, duration_option("--repeat-max-interval", "Longest wait.", _REPEAT)
    ] = None,
    repeat_jitter: Annotated[
        float | None,
        typer.Option(
            "--repeat-jitter", metavar="0..1", rich_help_panel=_REPEAT, help="Part of a wait left to chance."
        ),
    ] = None,
    repeat_at: Annotated[
        When | None, _when_option("--repeat-at", "One repetition, at this instant.", _REPEAT)
    ] = None,
    queue: Annotated[str, typer.Option("--queue", help="Queue to wait in; `default` if not given.")] = "",
    label: Annotated[
        list[str] | None, _pairs("--label", "NAME=VALUE", "Label to list tasks by.", None)
    ] = None,
    task_id: Annotated[
        str, typer.Option("--id", metavar="TASK_ID", help="Id of the task; made if not given.")
    ] = "",
    request_id: Annotated[
        str,
        typer.Option(
            "--request-id", metavar="ID", help="Makes it safe to repeat the command after a lost answer."
        ),
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the task at once.")] = False,
    exit_status: ExitStatus = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Have an HTTP request made later, with retries and repetitions.

    It is made once, unless --max-retries is given: the first error answer ends the task as FAILED.

    Durations are like 500ms, 10s, 1.5m, 2h, 3d; a plain number is seconds. Times are ISO 8601, local if
    without an offset, or +DURATION from now.
    """
    options = SubscribeOptions(
        target=TargetOptions(
            url=url,
            method=method,
            headers=tuple(header or ()),
            query=tuple(query or ()),
            body=_read_body(data, data_file),
            follow_redirects=follow_redirects,
        ),
        schedule=ScheduleOptions(delay_ms=delay, at=at, start_deadline_ms=start_deadline),
        retry=PolicyOptions(
            flag="retry",
            count=max_retries,
            interval_ms=retry_interval,
            growth=retry_growth,
            max_interval_ms=retry_max_interval,
            jitter=retry_jitter,
            at=retry_at,
            max_duration_ms=retry_max_duration,
            status_codes=tuple(retryable_status or ()),
        ),
        repeat=PolicyOptions(
            flag="repeat",
            count=max_repeats,
            interval_ms=repeat_interval,
            growth=repeat_growth,
            max_interval_ms=repeat_max_interval,
            jitter=repeat_jitter,
            at=repeat_at,
        ),
        attempt_timeout_ms=attempt_timeout,
        queue=queue,
        labels=tuple(label or ()),
        task_id=task_id,
        request_id=request_id,
    )
    try:
        request = build_request(options)
    except UnicodeEncodeError:
        raise  # a ValueError, too; see `entry`
    except ValueError as error:
        raise usage_error(str(error)) from None
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        _subscribe(client, request, output, follow_it=watch, exit_status=exit_status)


def _subscribe(
    client: Client, request: SubscribeRequest, output: Output, *, follow_it: bool, exit_status: bool
) -> None:
    request.view = TaskView.TASK_VIEW_MINIMAL if follow_it else output.view(TaskView.TASK_VIEW_BASIC)
    task = client.call(client.tasks.Subscribe, request).task
    if follow_it:
        # Its first message is the task.
        watch_task(client, WatchRequest(task_id=task.task_id), output, exit_status)
    elif output.as_json:
        output.document(task)
    else:
        output.line(task_line(task))


def _read_body(data: str | None, data_file: Path | None) -> bytes:
    if data is not None and data_file is not None:
        raise usage_error("--data does not go with --data-file")
    if data is not None and data.startswith("@"):
        data_file = Path(data[1:])
    elif data == "-":
        data_file = Path(data)
    elif data is not None:
        # The bytes as they were typed, whatever their encoding.
        return os.fsencode(data)
    if data_file is None:
        return b""
    try:
        return sys.stdin.buffer.read() if str(data_file) == "-" else data_file.read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {data_file}: {error.strerror}") from error
