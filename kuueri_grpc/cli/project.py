"""`kuueri project`: register one, look at it, change its token, choose among the kept ones."""

import shlex
from typing import Annotated

import typer

from kuueri_grpc.cli.client import Client, Connection
from kuueri_grpc.cli.credentials import CredentialsFile, ProjectCredentials
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.instants import format_local
from kuueri_grpc.cli.options import (
    DEFAULT_ADDRESS,
    TOKEN_VARIABLE,
    Address,
    Json,
    Token,
    address_flag,
    duration_option,
)
from kuueri_grpc.cli.output import Output, make_console, print_pairs, to_document
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.pb.project_service_pb2 import GetProjectRequest, RegisterRequest, RotateTokenRequest

app = typer.Typer(rich_markup_mode=None)
project = typer.Typer(rich_markup_mode=None, help="Register a project, look at it, change its token.")
app.add_typer(project, name="project")

Export = Annotated[
    bool,
    typer.Option("--export", help='Print `export KUUERI_TOKEN=...` alone, for eval "$(...)".'),
]
NoSave = Annotated[bool, typer.Option("--no-save", help="Do not keep the credentials in the file.")]


@project.command("register", cls=SectionedCommand)
@secured
def register(
    email: Annotated[str, typer.Option("--email", metavar="EMAIL", help="E-mail address of its owner.")],
    export: Export = False,
    no_save: NoSave = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Make a project and keep its credentials. Its token and signing secret are shown this once."""
    with Client(Connection(address)) as client:
        made = client.call(client.projects.Register, RegisterRequest(email=email))
    credentials = ProjectCredentials(
        made.project.project_id, made.project.email, made.token, made.signing_secret
    )
    file = CredentialsFile()
    failure, before = None, None
    if not no_save:
        try:
            before = file.save(address, credentials)
        except CliError as error:
            # Nobody can ask for the token again: it is shown all the same.
            failure = error
    kept_in = None if no_save or failure else str(file.path)
    output = Output(as_json)
    if as_json:
        output.document({**to_document(made), "credentials_file": kept_in})
    else:
        _show_credentials(credentials, export)
        output.notice(_keeping(address, kept_in, before))
    if failure:
        raise failure


@project.command("show", cls=SectionedCommand)
@secured
def show(as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None) -> None:
    """Show the project that the token belongs to."""
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        project = client.call(client.projects.GetProject, GetProjectRequest()).project
    if as_json:
        output.document(project)
    else:
        output.pairs(
            ("project id", project.project_id),
            ("email", project.email),
            ("created", format_local(project.create_time.ToMilliseconds())),
            ("tasks in queue", f"{project.task_in_queue} of {project.task_in_queue_limit}"),
        )


@project.command("rotate-token", cls=SectionedCommand)
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
    """Make a new token and let the old ones run out.

    It is shown this once, and kept in the place of the old one.
    """
    output = Output(as_json)
    request = RotateTokenRequest()
    if grace is not None:
        request.grace.FromMilliseconds(grace)
    with Client.open(address, token, output.notice) as client:
        project_id = client.call(client.projects.GetProject, GetProjectRequest()).project.project_id
        made = client.call(client.projects.RotateToken, request)
    file = CredentialsFile()
    failure, is_kept = None, False
    try:
        is_kept = file.replace_token(address, project_id, made.token)
    except CliError as error:
        failure = error
    kept_in = str(file.path) if is_kept else None
    if as_json:
        output.document({**to_document(made), "credentials_file": kept_in})
    else:
        typer.echo(_export(made.token) if export else made.token)
        output.notice(_keeping(address, kept_in, None))
    if failure:
        raise failure


@project.command("use", cls=SectionedCommand)
def use(
    project_id: Annotated[str, typer.Argument(metavar="PROJECT_ID", help="A project registered from here.")],
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Choose among the projects kept for a server."""
    credentials = CredentialsFile().use(address, project_id)
    output = Output(as_json)
    if as_json:
        output.document({"project_id": credentials.project_id, "email": credentials.email})
    else:
        output.line(f"{address}  {credentials.project_id}  {credentials.email}")


def _show_credentials(credentials: ProjectCredentials, export: bool) -> None:
    """With `export`, standard output has the shell command alone, and the rest goes to standard error."""
    if export:
        typer.echo(_export(credentials.token))
    console = make_console(stderr=export)
    print_pairs(
        console,
        ("project id", credentials.project_id),
        ("email", credentials.email),
        *([] if export else [("token", credentials.token)]),
        ("signing secret", credentials.signing_secret),
    )


def _export(token: str) -> str:
    return f"export {TOKEN_VARIABLE}={shlex.quote(token)}"


def _keeping(address: str, kept_in: str | None, before: str | None) -> str:
    if kept_in is None:
        return "not kept in a file; it is not shown again"
    text = f"kept in {kept_in} and used for {address} from now on"
    if before is None:
        return text
    return f"{text}; `kuueri project use {before}{address_flag(address)}` goes back to the project before"
