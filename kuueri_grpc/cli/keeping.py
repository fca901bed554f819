"""What is said of secrets that are shown once: where they are kept, and how a shell takes them."""

import shlex
from typing import Annotated

import typer

from kuueri_grpc.cli.options import TOKEN_VARIABLE, address_flag

Export = Annotated[
    bool,
    typer.Option("--export", help='Print `export KUUERI_TOKEN=...` alone, for eval "$(...)".'),
]


def export_line(token: str) -> str:
    """Return the line that puts a token into the environment of a shell."""
    return f"export {TOKEN_VARIABLE}={shlex.quote(token)}"


def told_of_keeping(address: str, kept_in: str | None, before: str | None = None) -> str:
    """Return what to tell: the file (None: none), and the project that was used for the server before."""
    if kept_in is None:
        return "not kept in a file; it is not shown again"
    text = f"kept in {kept_in} and used for {address} from now on"
    if before is None:
        return text
    return f"{text}; `kuueri project use {before}{address_flag(address)}` goes back to the project before"
