"""`kuueri completion`: the script that lets a shell complete commands and options."""

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from kuueri_grpc.cli.root import COMPLETE_VARIABLE

app = typer.Typer(rich_markup_mode=None)


class Shell(StrEnum):
    """Shells with a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command("completion")
def completion(shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")]) -> None:
    """Print the completion script of a shell: bash, zsh or fish.

    For bash: kuueri completion bash > ~/.local/share/bash-completion/completions/kuueri. For zsh: into a
    file _kuueri in a directory of $fpath. For fish: into ~/.config/fish/completions/kuueri.fish.
    """
    typer.echo(get_completion_script(prog_name="kuueri", complete_var=COMPLETE_VARIABLE, shell=shell))
