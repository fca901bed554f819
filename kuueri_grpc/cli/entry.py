"""Runs the command line: turns whatever ends a command into a message and an exit code."""

import os
from collections.abc import Sequence

import typer

from kuueri_grpc import __version__
from kuueri_grpc.cli.errors import EXIT_FAILED, EXIT_USAGE, CliError, report, usage_error
from kuueri_grpc.cli.root import COMPLETE_VARIABLE, root


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code (`errors` says which)."""
    if arguments and arguments[0] == "--version":
        typer.echo(f"kuueri {__version__}")
        return 0
    if COMPLETE_VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()  # typer registers its shells for commands of its own making alone
    options = arguments[: list(arguments).index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    try:
        code = root.main(list(arguments) or ["--help"], prog_name="kuueri", standalone_mode=False)
    except CliError as error:
        report(error, as_json)
        return error.exit_code
    except UnicodeEncodeError:
        # Bytes of the command line that are not UTF-8 are surrogates, which no message takes.
        odd = next((ascii(text) for text in arguments if not _is_text(text)), "a value from the environment")
        report(usage_error(f"{odd} is not UTF-8; only --data and files may be other bytes"), as_json)
        return EXIT_USAGE
    except BrokenPipeError:
        raise  # whoever read the output has had enough: the interpreter ends quietly
    except OSError as error:
        report(CliError(f"cannot write the output: {error.strerror}"), as_json)
        return EXIT_FAILED
    except typer.TyperException as error:
        report(_usage_error(error), as_json)
        return EXIT_USAGE
    return code if isinstance(code, int) else 0


def _is_text(argument: str) -> bool:
    return argument.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in argument)


def _usage_error(error: typer.TyperException) -> CliError:
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` shows what there is" if context else ""
    return usage_error(error.format_message(), hint)
