"""`kuueri instances`: the processes that serve a store, read from the store itself."""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.errors import EXIT_UNAVAILABLE, CliError, usage_error
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.options import Json
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.config import ConfigError, load_settings
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Sighting
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.instances import live_instances

app = typer.Typer(rich_markup_mode=None)

_COLUMNS = (
    Column("INSTANCE", 12),
    Column("VERSION", 8),
    Column("HOST", 16),
    Column("PID", 7, right=True),
    Column("ROLES", 13),
    Column("PARTITIONS", 10, right=True),
    Column("IN FLIGHT", 9, right=True),
    Column("HEARTBEAT", 10),
)


@app.command("instances", cls=SectionedCommand)
def instances(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Directory of the embedded store.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option("--redis-url", metavar="URL", help="Redis or Valkey that the server uses.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (JSON).")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the processes that serve a store, with what each is doing.

    Read from the store, which is found as `kuueri serve` finds it; no server need answer. Who has been
    silent for 30 s is gone from the list.
    """
    try:
        settings = load_settings({"data_dir": data_dir, "database.redis.url": redis_url}, config)
    except ConfigError as error:
        raise usage_error(str(error)) from None
    try:
        seen = asyncio.run(live_instances(settings))
    except (StartError, StoreUnavailable) as error:
        raise CliError(
            str(error),
            code="UNAVAILABLE",
            hint="the embedded store is there while its server runs; name its directory with --data-dir, or "
            "an external store with --redis-url",
            exit_code=EXIT_UNAVAILABLE,
        ) from None
    _show(seen, Output(as_json))


def _show(seen: Sequence[Sighting], output: Output) -> None:
    if output.as_json:
        for sighting in seen:
            document = dataclasses.asdict(sighting.instance)
            output.document(document | {"heartbeat_age_ms": sighting.age_ms})
        return
    if not seen:
        output.notice("no instances")
        return
    rows = RowPrinter(output.console, _COLUMNS)
    for sighting in seen:
        instance = sighting.instance
        rows.row(
            instance.instance_id,
            instance.version,
            instance.host,
            str(instance.pid),
            ",".join(instance.roles),
            str(instance.partitions),
            str(instance.in_flight),
            f"{format_duration_ms(sighting.age_ms)} ago",
        )
