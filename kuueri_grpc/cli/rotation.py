"""`kuueri project rotate-token` and `rotate-signing-secret`: new secrets in the place of the old ones."""

import uuid
from collections.abc import Callable
from typing import Annotated

import grpc
import typer
from google.protobuf.message import Message

from kuueri_grpc.cli.client import Client, Request, Response
from kuueri_grpc.cli.credentials import CredentialsFile
from kuueri_grpc.cli.errors import EXIT_UNAVAILABLE, CliError
from kuueri_grpc.cli.keeping import Export, export_line, told_of_keeping
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json, Token, duration_option
from kuueri_grpc.cli.output import Output, to_document
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.pb.project_service_pb2 import (
    GetProjectRequest,
    RotateSigningSecretRequest,
    RotateTokenRequest,
)

#: An answer that did not arrive may have been the last one that the old token gets.
_TRIES = 3


@secured
def rotate_token(
    grace: Annotated[
        int | None, duration_option("--grace", "How long the old tokens stay valid; 0 if not given.")
    ] = None,
    export: Export = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Make a new full token; the other full ones run out.

    It is shown this once, and kept in the place of the old one. Tokens of other scopes stay.
    """
    output = Output(as_json)
    # Random, so that this call alone can be repeated, also when the old token has ended by it.
    request = RotateTokenRequest(request_id=uuid.uuid4().hex)
    if grace is not None:
        request.grace.FromMilliseconds(grace)
    with Client.open(address, token, output.notice) as client:
        project_id = _project_id(client)
        made = repeated(client, client.projects.RotateToken, request)
    shown = export_line(made.token) if export else made.token
    _keep(output, made, shown, address, lambda file: file.replace_token(address, project_id, made.token))


def repeated(
    client: Client, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request
) -> Response:
    """Make a call that has a request id; make it again where no answer came. Raises as `Client.call` does."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return client.call(method, request)
        except CliError as error:
            if error.exit_code != EXIT_UNAVAILABLE or not tries_left:
                raise
    raise AssertionError("unreachable")


@secured
def rotate_signing_secret(
    grace: Annotated[
        int | None,
        duration_option("--grace", "How long requests are signed with the old one too; a day if not given."),
    ] = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Make a new secret to sign requests with.

    It is shown this once, and kept in the place of the old one.
    """
    output = Output(as_json)
    request = RotateSigningSecretRequest()
    if grace is not None:
        request.grace.FromMilliseconds(grace)
    with Client.open(address, token, output.notice) as client:
        project_id = _project_id(client)
        made = client.call(client.projects.RotateSigningSecret, request)
    secret = made.signing_secret
    _keep(
        output, made, secret, address, lambda file: file.replace_signing_secret(address, project_id, secret)
    )


def _project_id(client: Client) -> str:
    return client.call(client.projects.GetProject, GetProjectRequest()).project.project_id


def _keep(
    output: Output, made: Message, shown: str, address: str, replace: Callable[[CredentialsFile], bool]
) -> None:
    """Put a secret where the old one is kept, and show it, whatever comes of that: it cannot be asked for."""
    file = CredentialsFile()
    failure, is_kept = None, False
    try:
        is_kept = replace(file)
    except CliError as error:
        failure = error
    kept_in = str(file.path) if is_kept else None
    if output.as_json:
        output.document({**to_document(made), "credentials_file": kept_in})
    else:
        typer.echo(printable(shown))
        output.notice(told_of_keeping(address, kept_in))
    if failure:
        raise failure
