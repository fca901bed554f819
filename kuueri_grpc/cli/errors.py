"""What went wrong, as the person or program that typed the command gets it.

Exit codes:

| code | meaning |
|------|---------|
| 0    | done |
| 1    | refused or failed; with `--exit-status`, the task did not complete |
| 2    | the command line or the configuration is not valid |
| 3    | the server cannot be reached or cannot serve now |
| 130  | stopped by Ctrl-C |
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from kuueri_grpc.cli.safe_text import printable_lines, to_json_line

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that the server did not accept."""

    field: str
    description: str


class CliError(Exception):
    """Ends the command. `code` is a gRPC status or a word of ours, `reason` the server's (`ErrorReason`)."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "FAILED",
        reason: str = "",
        violations: Sequence[Violation] = (),
        hint: str = "",
        exit_code: int = EXIT_FAILED,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.hint = hint
        self.exit_code = exit_code


def usage_error(message: str, hint: str = "") -> CliError:
    """Return an error about the command line itself."""
    return CliError(message, code="USAGE", hint=hint, exit_code=EXIT_USAGE)


def as_text(error: CliError) -> str:
    """Return the error for a person: the message, each violation on its own line, the hint."""
    message, violations = error.message, error.violations
    if violations and all(violation.description in message for violation in violations):
        # A client that shows the message alone has them there. One reads well so; several have lines of
        # their own, under the message's summary of them.
        message, violations = (
            (message, ()) if len(violations) == 1 else (message.partition(":")[0], violations)
        )
    lines = [f"error: {message}"]
    lines += [f"  {violation.field}: {violation.description}" for violation in violations]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return printable_lines("\n".join(lines))


def as_document(error: CliError) -> dict[str, object]:
    """Return the error for a program, ready for JSON; what is empty is left out."""
    body = {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "violations": [{"field": v.field, "description": v.description} for v in error.violations],
        "hint": error.hint,
    }
    return {"error": {key: value for key, value in body.items() if value}}


def report(error: CliError, as_json: bool) -> None:
    """Write the error to standard error."""
    if as_json:
        typer.echo(to_json_line(as_document(error)), err=True)
        return
    label, separator, rest = as_text(error).partition(":")
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        label = typer.style(label, fg="red", bold=True)
    typer.echo(label + separator + rest, err=True)
