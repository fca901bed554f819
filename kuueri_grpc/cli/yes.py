"""The question before something is gone for good."""

import sys
from typing import Annotated

import typer

from kuueri_grpc.cli.errors import CliError, usage_error
from kuueri_grpc.cli.safe_text import printable

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str) -> None:
    """Return if the user says yes.

    Raises:
        CliError: they do not, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise usage_error(f"nobody can be asked: {question}", hint="--yes deletes without asking")
    if not typer.confirm(printable(question), err=True):
        raise CliError("not deleted")
