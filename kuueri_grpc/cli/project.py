"""`kuueri project`: register one, look at it, choose among the kept ones, set its limit, delete it."""

import uuid
from typing import Annotated

import typer

from kuueri_grpc.cli.client import Client, admin_connection
from kuueri_grpc.cli.credentials import CredentialsFile, ProjectCredentials
from kuueri_grpc.cli.errors import CliError, usage_error
from kuueri_grpc.cli.help import HelpfulGroup, SectionedCommand
from kuueri_grpc.cli.instants import format_local
from kuueri_grpc.cli.keeping import Export, export_line, told_of_keeping
from kuueri_grpc.cli.operator import AdminToken, hinted
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json, Token
from kuueri_grpc.cli.output import Output, make_console, print_pairs, to_document
from kuueri_grpc.cli.rotation import repeated, rotate_signing_secret, rotate_token
from kuueri_grpc.cli.safe_text import printable
from kuueri_grpc.cli.tokens import tokens
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.cli.yes import Yes, confirm
from kuueri_grpc.pb.project_pb2 import Project
from kuueri_grpc.pb.project_service_pb2 import (
    DeleteProjectRequest,
    GetProjectRequest,
    RegisterRequest,
    SetProjectLimitsRequest,
)

app = typer.Typer(rich_markup_mode=None)
project = typer.Typer(
    cls=HelpfulGroup,
    rich_markup_mode=None,
    help="Register a project, look at it, change its tokens, delete it.",
)
app.add_typer(project, name="project")

NoSave = Annotated[bool, typer.Option("--no-save", help="Do not keep the credentials in the file.")]
_MOST_TASKS = 2**31 - 1


@project.command("register", cls=SectionedCommand)
@secured
def register(
    email: Annotated[str, typer.Option("--email", metavar="EMAIL", help="E-mail address of its owner.")],
    export: Export = False,
    no_save: NoSave = False,
    admin_token: AdminToken = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Make a project and keep its credentials. Its token and signing secret are shown this once."""
    with Client(admin_connection(address, admin_token)) as client:
        try:
            request = RegisterRequest(email=email, request_id=uuid.uuid4().hex)
            made = repeated(client, client.projects.Register, request)
        except CliError as error:
            raise hinted(error, client.connection) from None
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
        output.notice(told_of_keeping(address, kept_in, before))
    if failure:
        raise failure


@project.command("show", cls=SectionedCommand, hidden=True)
@project.command("get", cls=SectionedCommand)
@secured
def get(as_json: Json = False, address: Address = DEFAULT_ADDRESS, token: Token = None) -> None:
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


@project.command("limit", cls=SectionedCommand)
@secured
def limit(
    project_id: Annotated[str, typer.Argument(metavar="PROJECT_ID", help="The project.")],
    tasks: Annotated[
        str,
        typer.Argument(metavar="TASKS", help="Most tasks in queue: a number, or default for the server's."),
    ],
    admin_token: AdminToken = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Set how many tasks a project may have in queue. It takes the admin token of the server."""
    request = SetProjectLimitsRequest(project_id=project_id, task_in_queue_limit=_task_limit(tasks))
    with Client(admin_connection(address, admin_token)) as client:
        try:
            project = client.call(client.projects.SetProjectLimits, request).project
        except CliError as error:
            raise hinted(error, client.connection) from None
    output = Output(as_json)
    if as_json:
        output.document(project)
    else:
        output.line(
            f"{project.project_id}  {project.email}  "
            f"{project.task_in_queue} of {project.task_in_queue_limit} tasks in queue"
        )


def _task_limit(text: str) -> int | None:
    if text == "default":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _MOST_TASKS:
        raise usage_error(f"TASKS is {text!r}; expected a number, 0 to {_MOST_TASKS:,}, or default")
    return int(text)


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


project.command("rotate-token", cls=SectionedCommand)(rotate_token)
project.command("rotate-signing-secret", cls=SectionedCommand)(rotate_signing_secret)
project.add_typer(tokens, name="token")


@project.command("delete", cls=SectionedCommand)
@secured
def delete(
    yes: Yes = False,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
    token: Token = None,
) -> None:
    """Delete the project that the token belongs to: its tasks, their history and its tokens, for good."""
    output = Output(as_json)
    with Client.open(address, token, output.notice) as client:
        found = client.call(client.projects.GetProject, GetProjectRequest()).project
        if not yes:
            _confirm(found)
        client.call(client.projects.DeleteProject, DeleteProjectRequest())
    try:
        CredentialsFile().remove(address, found.project_id)
    except CliError as error:
        # It is gone all the same; the token that is still kept opens nothing.
        output.notice(error.message)
    if as_json:
        output.document({"project_id": found.project_id, "email": found.email, "deleted": True})
    else:
        output.line(f"{found.project_id}  {found.email}  deleted")


def _confirm(found: Project) -> None:
    confirm(
        f"Delete project {found.project_id} ({found.email}) with its {found.task_in_queue} tasks in queue, "
        "all history and all tokens?"
    )


def _show_credentials(credentials: ProjectCredentials, export: bool) -> None:
    """With `export`, standard output has the shell command alone, and the rest goes to standard error."""
    if export:
        typer.echo(printable(export_line(credentials.token)))
    console = make_console(stderr=export)
    print_pairs(
        console,
        ("project id", credentials.project_id),
        ("email", credentials.email),
        *([] if export else [("token", credentials.token)]),
        ("signing secret", credentials.signing_secret),
    )
