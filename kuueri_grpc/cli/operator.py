"""What the commands of the operator share: the admin token, and the hint where it is not taken."""

from typing import Annotated

import grpc
import typer

from kuueri_grpc.cli.client import Client, Connection, Request, Response
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.options import ADMIN_TOKEN_VARIABLE

AdminToken = Annotated[
    str | None,
    typer.Option(
        "--admin-token",
        metavar="TOKEN",
        help=f"Admin token of the server, where it has one; else that in {ADMIN_TOKEN_VARIABLE}.",
    ),
]


def call_as_operator(
    client: Client, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request
) -> Response:
    """Make a call with the admin token. Raises `CliError`, with a hint where the token is not taken."""
    try:
        return client.call(method, request)
    except CliError as error:
        raise hinted(error, client.connection) from None


def hinted(error: CliError, connection: Connection) -> CliError:
    """Return the error of a call of the operator with a hint at the admin token."""
    if error.code == "UNAUTHENTICATED":
        came = f"that from {connection.token_source} is not it" if connection.token else "none was given"
        error.hint = f"--admin-token or {ADMIN_TOKEN_VARIABLE} give the server's TASKS_ADMIN_TOKEN; {came}"
    return error
