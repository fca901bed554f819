"""The command `kuueri target`."""

import asyncio
import signal
from typing import Annotated

import typer

from kuueri_grpc.cli.errors import EXIT_FAILED, CliError, usage_error
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.options import Json, checked, duration_option
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.target.answers import Answers, Script, parse_script
from kuueri_grpc.cli.target.order import Order, OrderCheck
from kuueri_grpc.cli.target.server import VALID, Behaviour, Received, TargetServer
from kuueri_grpc.cli.target.signature import parse_secret
from kuueri_grpc.cli.target.view import RequestView

app = typer.Typer(rich_markup_mode=None)


@app.command("target", cls=SectionedCommand)
def target(
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port; 0 picks a free one.")] = 8203,
    status: Annotated[
        Script | None,
        typer.Option(
            "--status",
            metavar="CODE,...",
            parser=checked(parse_script),
            help="Answers in this order, the last one from then on; `drop` closes without; 200 if not given.",
        ),
    ] = None,
    per_task: Annotated[
        bool, typer.Option("--per-task", help="Start the answers anew for each task (else for each path).")
    ] = False,
    delay: Annotated[int | None, duration_option("--delay", "Wait before each answer.")] = None,
    retry_after: Annotated[
        str | None, typer.Option("--retry-after", metavar="VALUE", help="Retry-After of each answer but 2xx.")
    ] = None,
    location: Annotated[
        str | None, typer.Option("--location", metavar="URL", help="Location of each 3xx answer.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="whsec_...",
            envvar="KUUERI_SIGNING_SECRET",
            help="Verify signatures with this signing secret. Repeatable.",
        ),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Stop after so many requests.")] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 if an attempt was missing, came twice or was badly signed."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print headers and bodies too.")] = False,
    as_json: Json = False,
) -> None:
    """Run an HTTP server to send tasks to, with scripted answers.

    Prints each request, checks that the attempts of each task come as 1, 2, 3 ..., and sums up at the end.
    """
    try:
        keys = [parse_secret(text) for text in secret or ()]
    except ValueError as error:
        raise usage_error(f"--secret: {error}") from None
    script = status or Script((200,))
    observer = _Observer(Output(as_json), count, verbose)
    server = TargetServer(
        Answers(script, per_task=per_task),
        Behaviour(delay or 0, retry_after, location, tuple(keys)),
        observer.on_request,
        observer.on_answered,
    )
    asyncio.run(_run(server, host, port, observer, script))
    observer.sum_up(server.order)
    if strict and not observer.is_clean(server.order):
        raise typer.Exit(EXIT_FAILED)


async def _run(server: TargetServer, host: str, port: int, observer: "_Observer", script: Script) -> None:
    """Serve until SIGINT, SIGTERM or the last of the requests to wait for."""
    try:
        url = await server.start(host, port)
    except OSError as error:
        raise CliError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, observer.done.set)
    observer.ready(url, script)
    try:
        await observer.done.wait()
    finally:
        await server.stop()


class _Observer:
    """Prints what the server receives, and says when to stop."""

    def __init__(self, output: Output, count: int | None, verbose: bool) -> None:
        self.done = asyncio.Event()
        self._output = output
        self._view = RequestView(output, verbose=verbose)
        self._left = count
        self._requests = 0
        self._badly_signed = 0

    def ready(self, url: str, script: Script) -> None:
        if self._output.as_json:
            self._output.document({"kind": "ready", "url": url})
        else:
            self._output.line(f"kuueri target is ready on {url} (answers {script})")

    def on_request(self, received: Received) -> None:
        self._requests += 1
        self._badly_signed += received.signature not in (None, VALID)
        if self._output.as_json:
            self._output.document(received.as_document())
        else:
            self._view.show(received)

    def on_answered(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.done.set()

    def is_clean(self, order: OrderCheck) -> bool:
        return not (order.missing or order.counts[Order.DUPLICATE] or self._badly_signed)

    def sum_up(self, order: OrderCheck) -> None:
        totals = {
            "requests": self._requests,
            "tasks": order.tasks,
            "duplicates": order.counts[Order.DUPLICATE],
            "missing": order.missing,
            "late": order.counts[Order.LATE],
            "badly_signed": self._badly_signed,
        }
        if self._output.as_json:
            self._output.document({"kind": "summary", **totals})
        else:
            self._output.line(
                ", ".join(f"{name.replace('_', ' ')}: {total}" for name, total in totals.items())
            )
