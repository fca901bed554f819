"""`kuueri admin`: what the operator of a server does with its projects. It takes the admin token."""

from typing import Annotated

import typer

from kuueri_grpc.cli.client import Client, admin_connection
from kuueri_grpc.cli.help import HelpfulGroup, SectionedCommand
from kuueri_grpc.cli.instants import format_local
from kuueri_grpc.cli.operator import AdminToken, call_as_operator
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json, choice_option, duration_option
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.cli.tokens import show_made, token_request
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.cli.yes import Yes, confirm
from kuueri_grpc.domain.access import Scope
from kuueri_grpc.pb.project_service_pb2 import DeleteProjectRequest, ListProjectsRequest

app = typer.Typer(rich_markup_mode=None)
admin = typer.Typer(
    cls=HelpfulGroup,
    rich_markup_mode=None,
    help="As the operator: list projects, make a token for one, delete one.",
)
token = typer.Typer(cls=HelpfulGroup, rich_markup_mode=None, help="Tokens for a project that lost its own.")
admin.add_typer(token, name="token")
app.add_typer(admin, name="admin")

_PAGE_SIZE = 1_000
_COLUMNS = (Column("PROJECT ID", 16), Column("CREATED", 25), Column("TASKS", 14), Column("EMAIL", 20))

ProjectId = Annotated[str, typer.Argument(metavar="PROJECT_ID", help="The project, see `admin projects`.")]


@admin.command("projects", cls=SectionedCommand)
@secured
def projects(
    email: Annotated[str, typer.Option("--email", metavar="EMAIL", help="Only the project of it.")] = "",
    admin_token: AdminToken = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """List the projects of the server, with the tasks that each has in queue."""
    output = Output(as_json)
    request = ListProjectsRequest(page_size=_PAGE_SIZE, email=email)
    rows = RowPrinter(output.console, _COLUMNS)
    count = 0
    with Client(admin_connection(address, admin_token)) as client:
        while True:
            page = call_as_operator(client, client.projects.ListProjects, request)
            for one in page.projects:
                count += 1
                if as_json:
                    output.document(one)
                else:
                    created = format_local(one.create_time.ToMilliseconds())
                    tasks = f"{one.task_in_queue} of {one.task_in_queue_limit}"
                    rows.row(one.project_id, created, tasks, one.email)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    if not count:
        output.notice("no project" if not email else f"no project of {email}")


@token.command("create", cls=SectionedCommand)
@secured
def create_token(
    project_id: ProjectId,
    scope: Annotated[
        Scope,
        choice_option(Scope, "--scope", "What it may do: everything (if not given), subscribe, or read."),
    ] = Scope.FULL,
    name: Annotated[str, typer.Option("--name", help="What to call it in the list.")] = "",
    ttl: Annotated[
        int | None, duration_option("--ttl", "How long it is valid; until it is revoked if not given.")
    ] = None,
    admin_token: AdminToken = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Make a token for a project. It is shown this once, and kept in no file."""
    request = token_request(scope, name, ttl)
    request.project_id = project_id
    with Client(admin_connection(address, admin_token)) as client:
        made = call_as_operator(client, client.projects.CreateToken, request)
    show_made(made, Output(as_json))


@admin.command("delete", cls=SectionedCommand)
@secured
def delete(
    project_id: ProjectId,
    yes: Yes = False,
    admin_token: AdminToken = None,
    as_json: Json = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Delete a project: its tasks, their history and its tokens, for good."""
    if not yes:
        confirm(f"Delete project {project_id} with its tasks in queue, all history and all tokens?")
    with Client(admin_connection(address, admin_token)) as client:
        call_as_operator(client, client.projects.DeleteProject, DeleteProjectRequest(project_id=project_id))
    output = Output(as_json)
    if as_json:
        output.document({"project_id": project_id, "deleted": True})
    else:
        output.line(f"{project_id}  deleted")
