"""`kuueri info`: what a server is."""

from collections.abc import Iterator

import typer

from kuueri_grpc.cli.client import Client, Connection
from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.options import DEFAULT_ADDRESS, Address, Json
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.transport import secured
from kuueri_grpc.pb.server_service_pb2 import GetServerInfoRequest, ServerInfo, StoreInfo, StoreKind

app = typer.Typer(rich_markup_mode=None)


@app.command("info", cls=SectionedCommand)
@secured
def info(as_json: Json = False, address: Address = DEFAULT_ADDRESS) -> None:
    """Show what a server is: its version, its store and its limits. It takes no token."""
    output = Output(as_json)
    with Client(Connection(address)) as client:
        found = client.call(client.server.GetServerInfo, GetServerInfoRequest()).server_info
    if as_json:
        output.document(found)
    else:
        output.pairs(*server_details(found))


def server_details(found: ServerInfo) -> Iterator[tuple[str, str]]:
    """Yield names and values of everything about a server."""
    limits = found.limits
    yield "version", found.version
    yield "store", _store(found.store)
    yield "largest body", f"{limits.max_body_bytes:,} bytes"
    yield "largest call", f"{limits.max_message_bytes:,} bytes"
    yield "largest batch", f"{limits.max_batch_tasks:,} tasks"
    yield "tasks in queue", f"{limits.task_in_queue_limit:,} of a project"
    yield "watches", f"{limits.max_watches:,} of a project"
    if limits.max_calls:
        period = format_duration_ms(limits.call_period.ToMilliseconds())
        yield "calls", f"{limits.max_calls:,} of a project in {period}"
    else:
        yield "calls", "no limit"
    yield "history", format_duration_ms(limits.history.ToMilliseconds())
    yield from (("feature", name) for name in found.features)


def _store(store: StoreInfo) -> str:
    kind = StoreKind.Name(store.kind).removeprefix("STORE_KIND_").lower()
    return ", ".join(filter(None, [kind, f"{store.product} {store.version}".strip()]))
