"""Received requests for people: one row a request."""

from collections.abc import Iterator

from rich.text import Text

from kuueri_grpc.cli.instants import format_clock
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.cli.target.answers import DROP
from kuueri_grpc.cli.target.order import Order
from kuueri_grpc.cli.target.server import VALID, Received

_COLUMNS = (
    Column("TIME", 12),
    Column("METHOD", 6),
    Column("PATH", 16),
    Column("TASK", 26),
    Column("ATTEMPT", 7, right=True),
    Column("ANSWER", 6, right=True),
    Column("BODY", 9, right=True),
    Column("NOTES", 30),
)
_NOTES = {
    Order.DUPLICATE: "DUPLICATE: this attempt came before",
    Order.GAP: "GAP: attempts before it have not come",
    Order.LATE: "LATE: a later attempt came before",
}
#: Of a body, in characters or bytes.
_SHOWN = 4_096


class RequestView:
    """Prints requests as they come; with `verbose`, their headers and bodies."""

    def __init__(self, output: Output, *, verbose: bool) -> None:
        self._output = output
        self._rows = RowPrinter(output.console, _COLUMNS)
        self._verbose = verbose

    def show(self, received: Received) -> None:
        """Print one request."""
        succeeds = received.status is not None and 200 <= received.status < 300
        self._rows.row(
            Text(format_clock(received.received_at_ns // 1_000_000), style="dim"),
            printable(received.method),
            printable(received.path),
            printable(received.task_id or ""),
            "" if received.attempt is None else str(received.attempt),
            Text(str(received.status or DROP), style="green" if succeeds else "red"),
            f"{len(received.body):,} B",
            Text("; ".join(_notes(received)), style="bold red"),
        )
        if self._verbose:
            for name, value in received.headers.items():
                self._output.line(f"    {name}: {value}")
            self._output.line(*(["    ", _body_text(received.body)] if received.body else []))


def _notes(received: Received) -> Iterator[str]:
    if received.order in _NOTES:
        yield _NOTES[received.order]
    if received.signature not in (None, VALID):
        yield f"SIGNATURE: {received.signature}"


def _body_text(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body[:_SHOWN].hex(" ")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
