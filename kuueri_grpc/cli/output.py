"""Where the commands write: results to standard output, notices to standard error; as text or as JSON."""

from collections.abc import Mapping
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.text import Text

from kuueri_grpc.cli.safe_text import printable, to_json_line
from kuueri_grpc.pb.task_pb2 import TaskView

#: Where nobody looks at a screen, nothing is folded.
_UNBOUNDED = 10_000


def to_document(message: Message) -> dict[str, Any]:
    """Return a message as proto JSON under the names of its proto, every field written."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def to_json(document: Message | Mapping[str, Any]) -> str:
    """Return one line of JSON."""
    return to_json_line(to_document(document) if isinstance(document, Message) else document)


def make_console(stderr: bool = False) -> Console:
    """A console that takes text as it is; colour where it goes to a terminal and NO_COLOR is not set."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def print_pairs(console: Console, *pairs: tuple[str, str | Text]) -> None:
    """Print names and values, a line each. A long value is not folded: it can be copied in one piece."""
    width = max((len(name) for name, _ in pairs), default=0) + 2
    for name, value in pairs:
        text = Text(printable(value)) if isinstance(value, str) else value
        console.print(Text.assemble((name.ljust(width), "dim"), text), soft_wrap=True)


class Output:
    """What a command says, in the form it was asked for."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = make_console()

    def view(self, shown: TaskView.ValueType) -> TaskView.ValueType:
        """Return the view to ask a task in: `shown` for a person, at least BASIC in JSON.

        FULL is for those alone who ask for it: it takes a full token, and shows what the target knows its
        caller by.
        """
        return max(shown, TaskView.TASK_VIEW_BASIC) if self.as_json else shown

    def document(self, document: Message | Mapping[str, Any]) -> None:
        """Print one line of JSON."""
        typer.echo(to_json(document))

    def line(self, *parts: str | Text) -> None:
        """Print one line of text."""
        line = Text.assemble(*(printable(part) if isinstance(part, str) else part for part in parts))
        self.console.print(line, soft_wrap=True)

    def pairs(self, *pairs: tuple[str, str | Text]) -> None:
        """Print names and values, a line each."""
        print_pairs(self.console, *pairs)

    def notice(self, text: str) -> None:
        """Tell about the command itself, on standard error."""
        if self.as_json:
            typer.echo(to_json({"notice": text}), err=True)
        else:
            make_console(stderr=True).print(Text(printable(text), style="dim"), soft_wrap=True)
