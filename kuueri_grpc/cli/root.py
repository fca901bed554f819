"""The root of the command: knows the names of all commands, and loads the one that is called.

Typer builds a validator for every option of every command it is given, which takes longer than all else
in `kuueri --help` together; and the commands import gRPC, aiohttp and rich.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from kuueri_grpc.process.collector import importing

#: Command -> (module, help). The help is the first sentence of the command's own.
COMMANDS = {
    "serve": ("serve", "Run the server until it is stopped."),
    "instances": ("instances", "List the processes that serve a store, with what each is doing."),
    "keys": ("keys", "Make, list and change the keys that the store is sealed with."),
    "backup": ("backups", "Copy the embedded store to a directory, while the server runs."),
    "restore": ("backups", "Put a backup into a data directory without a store, and load it once."),
    "check": (
        "backups",
        "Read the files of an embedded store that does not run, and report what is damaged.",
    ),
    "demo": ("demo.command", "See one task from subscribe to its last event, on a server of its own."),
    "target": ("target.command", "Run an HTTP server to send tasks to, with scripted answers."),
    "project": ("project", "Register a project, look at it, change its tokens, delete it."),
    "admin": ("admin", "As the operator: list projects, make a token for one, delete one."),
    "info": ("info", "Show what a server is: its version, its store and its limits."),
    "subscribe": ("subscribe", "Have an HTTP request made later, with retries and repetitions."),
    "watch": ("watch", "Follow a task live until it ends, or a queue or all tasks until Ctrl-C."),
    "get": ("tasks", "Show a task: its request, its policies, its counters."),
    "list": ("tasks", "List tasks, the newest first."),
    "timeline": ("tasks", "Show all that has happened to a task."),
    "cancel": ("tasks", "End tasks: no attempt starts any more, one in flight is aborted."),
    "pause": ("tasks", "Hold tasks; each keeps the delay that remains."),
    "resume": ("tasks", "Let held tasks go on after the delay that remained."),
    "run": ("tasks", "Make tasks due now."),
    "purge": ("tasks", "Delete tasks that have ended or are paused, with their history."),
    "completion": ("completion", "Print the completion script of a shell: bash, zsh or fish."),
}

#: Set by the script of `kuueri completion` when a shell asks for completions.
COMPLETE_VARIABLE = "_KUUERI_COMPLETE"

_HELP = """Kuueri Tasks: HTTP requests that are made later, retried, repeated, and followed live.

Client commands call the server at --address (KUUERI_ADDRESS, 127.0.0.1:8202) with the token of --token,
KUUERI_TOKEN, or the file that `kuueri project register` keeps.
"""


class RootGroup(TyperGroup):
    """Lists commands without loading them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load the module of a command and return the command; None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        with importing():
            module = import_module(f"kuueri_grpc.cli.{COMMANDS[cmd_name][0]}")
        return typer.main.get_group(module.app).commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is called; an unknown one is an error that names what it may have meant."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the commands that begin so, without loading any."""
        from typer.completion import shell_completion  # type: ignore[attr-defined]

        return [
            shell_completion.CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, `--version` among them, which is `entry`'s, and the commands."""
        with formatter.section("Options"):
            formatter.write_dl([("--version", "Show the version."), ("-h, --help", "Show this message.")])
        self.format_commands(ctx, formatter)


root = RootGroup(
    name="kuueri",
    help=_HELP,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
