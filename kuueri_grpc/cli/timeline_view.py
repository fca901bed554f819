"""Timelines for people: one row an event, as it comes."""

import time

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.instants import format_clock, format_date
from kuueri_grpc.cli.names import event_name
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent, TimelineGap

#: The last events of a task. They are named like the states they leave it in.
TERMINAL_EVENTS = frozenset({"COMPLETED", "FAILED", "CANCELED", "EXPIRED"})

_COLUMNS = (
    Column("TIME", 12),
    Column("#", 3, right=True),
    Column("EVENT", 16),
    Column("STATUS", 6, right=True),
    Column("LATENCY", 7, right=True),
    Column("NEXT", 8, right=True),
    Column("DESCRIPTION", 50),
)
_STYLES = {
    "SUBSCRIBED": "cyan",
    "DISPATCHED": "blue",
    "SUCCEEDED": "green",
    "ERRORED": "red",
    "RETRY_SCHEDULED": "yellow",
    "REPEAT_SCHEDULED": "cyan",
    "PAUSED": "magenta",
    "RESUMED": "cyan",
    "RECOVERED": "yellow",
    "COMPLETED": "bold green",
    "FAILED": "bold red",
    "CANCELED": "bold magenta",
    "EXPIRED": "bold red",
}


_TASK = Column("TASK", 26)


class TimelineView:
    """Prints events. A line with the date comes before the first event of any day but today.

    `with_task`: the events are of several tasks, and each row says of which.
    """

    def __init__(self, console: Console, with_task: bool = False) -> None:
        self._console = console
        self._with_task = with_task
        self._rows = RowPrinter(console, (_COLUMNS[0], _TASK, *_COLUMNS[1:]) if with_task else _COLUMNS)
        self._date = format_date(time.time_ns() // 1_000_000)

    def show_gap(self, gap: TimelineGap) -> None:
        """Print that events are missing."""
        self._console.print(Text(f"... {gap_text(gap)}", style="dim"))

    def show(self, event: TimelineEvent) -> None:
        """Print one event."""
        create_ms = event.create_time.ToMilliseconds()
        if (date := format_date(create_ms)) != self._date:
            self._date = date
            self._console.print(Text(date, style="dim"))
        name = event_name(event.type)
        self._rows.row(
            Text(format_clock(create_ms), style="dim"),
            *((printable(event.task_id),) if self._with_task else ()),
            str(event.sequence),
            Text(name, style=_STYLES.get(name, "")),
            str(event.status_code) if event.HasField("status_code") else "",
            format_duration_ms(event.latency.ToMilliseconds()) if event.HasField("latency") else "",
            _wait(create_ms, event.next_time) if event.HasField("next_time") else "",
            printable(event.description),
        )


def gap_text(gap: TimelineGap) -> str:
    """Return the sentence on events that are not kept any more."""
    return f"events {gap.first_sequence:,} to {gap.last_sequence:,} are not kept any more"


def _wait(create_ms: int, next_time: Timestamp) -> str:
    wait_ms = next_time.ToMilliseconds() - create_ms
    return f"in {format_duration_ms(wait_ms)}" if wait_ms > 0 else "now"
