"""`kuueri project token`: more tokens for a project, each with a scope."""

from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from kuueri_grpc.cli.client import Client
from kuueri_grpc.cli.help import HelpfulGroup, SectionedCommand
from kuueri_grpc.cli.instants import format_local
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json, Token, choice_option, duration_option
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.domain.access import Scope
from kuueri_grpc.pb.project_service_pb2 import (
    CreateTokenRequest,
    CreateTokenResponse,
    ListTokensRequest,
    RevokeTokenRequest,
)
from kuueri_grpc.pb.token_pb2 import AccessToken, TokenScope

tokens = typer.Typer(
    cls=HelpfulGroup, rich_markup_mode=None, help="Tokens of a project: make, list and revoke them."
)

_PREFIX = "TOKEN_SCOPE_"
_COLUMNS = (
    Column("KEY ID", 20),
    Column("SCOPE", 9),
    Column("CREATED", 29),
    Column("EXPIRES", 29),
    Column("NAME", 12),
)


@tokens.command("create", cls=SectionedCommand)
@secured
def create(
    scope: Annotated[
        Scope, choice_option(Scope, "--scope", "What it may do: everything, only subscribe, or only read.")
    ],
    name: Annotated[str, typer.Option("--name", help="What to call it in the list.")] = "",
    ttl: Annotated[
        int | None, duration_option("--ttl", "How long it is valid; until it is revoked if not given.")
    ] = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Make one more token. It is shown this once, and kept in no file."""
    output = Output(as_json)
    request = token_request(scope, name, ttl)
    with Client.open(address, token, output.notice) as client:
        made = client.call(client.projects.CreateToken, request)
    show_made(made, output)


def token_request(scope: Scope, name: str, ttl_ms: int | None) -> CreateTokenRequest:
    """Return the request for a token."""
    request = CreateTokenRequest(scope=TokenScope.Value(f"{_PREFIX}{scope}"), display_name=name)
    if ttl_ms is not None:
        request.ttl.FromMilliseconds(ttl_ms)
    return request


def show_made(made: CreateTokenResponse, output: Output) -> None:
    """Print a token that was made, alone on standard output."""
    if output.as_json:
        output.document(made)
    else:
        typer.echo(printable(made.token))
        output.notice(f"token {made.access_token.key_id}; it is not shown again")


@tokens.command("list", cls=SectionedCommand)
@secured
def list_tokens(as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None) -> None:
    """List the valid tokens, the oldest first: what they may do, not the tokens themselves."""
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        found = client.call(client.projects.ListTokens, ListTokensRequest()).access_tokens
    rows = RowPrinter(output.console, _COLUMNS)
    for one in found:
        if as_json:
            output.document(one)
        else:
            rows.row(
                one.key_id,
                _scope(one),
                _instant(one.create_time if one.HasField("create_time") else None),
                _instant(one.expire_time if one.HasField("expire_time") else None),
                _name(one),
            )


@tokens.command("revoke", cls=SectionedCommand)
@secured
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Key id of the token, see `list`.")],
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """End a token at once, on every server."""
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        client.call(client.projects.RevokeToken, RevokeTokenRequest(key_id=key_id))
    if as_json:
        output.document({"key_id": key_id, "revoked": True})
    else:
        output.line(f"{key_id}  revoked")


def _scope(token: AccessToken) -> str:
    return TokenScope.Name(token.scope).removeprefix(_PREFIX)


def _instant(instant: Timestamp | None) -> str:
    # "-": not known, or never.
    return "-" if instant is None else format_local(instant.ToMilliseconds())


def _name(token: AccessToken) -> str:
    return token.display_name
