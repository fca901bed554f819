"""`kuueri keys`: make a key, see which are in use, move what is kept to the newest."""

import asyncio
import dataclasses
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from kuueri_grpc.cli.errors import EXIT_UNAVAILABLE, CliError, usage_error
from kuueri_grpc.cli.help import HelpfulGroup, SectionedCommand
from kuueri_grpc.cli.options import Json
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.rows import Column, RowPrinter
from kuueri_grpc.config import ConfigError, Settings, load_settings
from kuueri_grpc.crypto.keyring import EncryptionKey
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.keys import add_key
from kuueri_grpc.process.rotation import BATCH, Tally, key_rotation, key_states

app = typer.Typer(rich_markup_mode=None)
keys = typer.Typer(
    cls=HelpfulGroup,
    rich_markup_mode=None,
    help="Make, list and change the keys that the store is sealed with.",
)
app.add_typer(keys, name="keys")

_PROGRESS_S = 1.0
_COLUMNS = (Column("KEY", 12), Column("HERE", 7), Column("RECORDS", 7), Column("LACKED BY", 9))

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Directory of the embedded store.")
]
RedisUrl = Annotated[
    str | None, typer.Option("--redis-url", metavar="URL", help="Redis or Valkey that the server uses.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (JSON).")]

_Result = TypeVar("_Result")


@keys.command("generate", cls=SectionedCommand)
def generate(
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="Put it in front of the keys of the embedded store, instead of printing it."
        ),
    ] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Print a new random key, for SERVICE.CRYPTO.KEY."""
    key = EncryptionKey.generate()
    if not add:
        typer.echo(key.reveal())
        return
    try:
        path = add_key(_settings(data_dir, None, config), key)
    except StartError as error:
        raise CliError(str(error)) from None
    typer.echo(f"added key {key.key_id} to {path}; restart the server, then run `kuueri keys rotate`")


@keys.command("list", cls=SectionedCommand)
def list_keys(
    data_dir: DataDir = None, redis_url: RedisUrl = None, config: Config = None, as_json: Json = False
) -> None:
    """List the keys that are configured here or in use, and the instances that lack one."""
    output = Output(as_json)
    states = _run(key_states(_settings(data_dir, redis_url, config)))
    rows = RowPrinter(output.console, _COLUMNS) if not as_json else None
    for state in states:
        if rows is None:
            output.document(dataclasses.asdict(state))
            continue
        here = "newest" if state.newest else "opens" if state.here else "missing"
        rows.row(state.key_id, here, "yes" if state.in_use else "none", ", ".join(state.lacked_by) or "-")


@keys.command("rotate", cls=SectionedCommand)
def rotate(
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: Config = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, max=10_000, help="Tasks that one step looks at.")
    ] = BATCH,
    as_json: Json = False,
) -> None:
    """Seal all that the store keeps anew with the newest key, beside the servers that run.

    It can be stopped and called again at any time. When it is done, it says which keys can be removed.
    """
    _run(_rotate(_settings(data_dir, redis_url, config), batch, Output(as_json)))


async def _rotate(settings: Settings, batch: int, output: Output) -> None:
    unreadable, told = 0, time.monotonic()
    async with key_rotation(settings, batch) as rotation:
        async for tally in rotation.run():
            unreadable = tally.unreadable
            if time.monotonic() - told > _PROGRESS_S:
                told = time.monotonic()
                _tell(output, tally, rotation.resealed)
        resealed, retired = rotation.resealed, rotation.retired
    if output.as_json:
        output.document({"done": True, "resealed": resealed, "unreadable": unreadable, "retired": retired})
        return
    typer.echo(f"{resealed:,} records sealed anew; every record that opens is under the newest key")
    if unreadable:
        typer.echo(
            f"{unreadable:,} records do not open with any key: they were damaged, and stay as they are"
        )
    if retired:
        typer.echo(
            f"no record is under {', '.join(retired)} any more: remove it from the keys of every server, and "
            "keep it elsewhere for as long as you keep a backup from before"
        )


def _tell(output: Output, tally: Tally, resealed: int) -> None:
    if output.as_json:
        output.document({"done": False, **dataclasses.asdict(tally), "resealed": resealed})
    else:
        output.notice(
            f"project {tally.projects + 1:,} of {tally.of_projects:,}: {tally.records:,} records looked at, "
            f"{resealed:,} sealed anew"
        )


def _settings(data_dir: Path | None, redis_url: str | None, config: Path | None) -> Settings:
    try:
        return load_settings({"data_dir": data_dir, "database.redis.url": redis_url}, config)
    except ConfigError as error:
        raise usage_error(str(error)) from None


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        return asyncio.run(work)
    except StartError as error:
        raise CliError(str(error)) from None
    except StoreUnavailable as error:
        raise CliError(
            str(error),
            code="UNAVAILABLE",
            hint="the embedded store is there while its server runs; name its directory with --data-dir, or "
            "an external store with --redis-url",
            exit_code=EXIT_UNAVAILABLE,
        ) from None
