"""`kuueri backup`, `kuueri restore`, `kuueri check`: copies of the embedded store, and its files."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kuueri_grpc.cli.errors import CliError, usage_error
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.config import ConfigError, Settings, load_settings
from kuueri_grpc.process import backups
from kuueri_grpc.process.backups import Damage
from kuueri_grpc.process.errors import StartError

app = typer.Typer(rich_markup_mode=None)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Directory of the embedded store.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (JSON).")]


@app.command("backup", cls=SectionedCommand)
def backup(
    *,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Directory to make, for the copy.")],
    with_keys: Annotated[
        bool,
        typer.Option(
            "--with-keys", help="Copy the encryption keys, too: the copy can be read then by who has it."
        ),
    ] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Copy the embedded store to a directory, while the server runs.

    The copy holds what was acknowledged before the command began. Without --with-keys, keep the file
    encryption.keys of the data directory in another place: nothing in the copy can be read without it.
    docs/backup.md has the rest.
    """
    settings = _settings(data_dir, config)
    try:
        size = backups.back_up(settings, to, with_keys=with_keys)
    except StartError as error:
        raise CliError(str(error)) from None
    keys = "with its keys" if with_keys else "without its keys"
    typer.echo(f"copied {size:,} bytes of {settings.data_dir} to {to}, {keys}")


@app.command("restore", cls=SectionedCommand)
def restore(
    *,
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="A copy that `backup` made.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Put a backup into a data directory without a store, and load it once.

    What was accepted after the backup is not in it; tasks that ended after it are waiting again and are
    sent again. The server needs the encryption keys of the backup: put encryption.keys into the directory.
    """
    settings = _settings(data_dir, config)
    try:
        projects = asyncio.run(backups.restore(settings, source))
    except StartError as error:
        raise CliError(str(error)) from None
    typer.echo(f"restored {source} to {settings.data_dir}: {projects} project{'' if projects == 1 else 's'}")


@app.command("check", cls=SectionedCommand)
def check(
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Cut off what cannot be read at the end of the last file.")
    ] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Read the files of an embedded store that does not run, and report what is damaged.

    Exits with 1 where something is. --repair loses every change from the first damaged byte on: back the
    directory up first.
    """
    settings = _settings(data_dir, config)
    try:
        damages = backups.repair(settings) if repair else backups.check(settings)
    except StartError as error:
        raise CliError(str(error)) from None
    _show(settings, damages, repaired=repair)


def _show(settings: Settings, damages: Sequence[Damage], *, repaired: bool) -> None:
    if not damages:
        typer.echo(f"{settings.data_dir}: no damage")
        return
    for damage in damages:
        lost = damage.size_bytes - damage.sound_bytes
        if repaired:
            typer.echo(f"{damage.file}: cut off the last {lost:,} of {damage.size_bytes:,} bytes")
            continue
        advice = "--repair cuts them off" if damage.can_be_cut else "restore a backup"
        typer.echo(f"{damage.file}: {lost:,} of {damage.size_bytes:,} bytes cannot be read; {advice}")
    if not repaired:
        raise typer.Exit(1)


def _settings(data_dir: Path | None, config: Path | None) -> Settings:
    try:
        return load_settings({"data_dir": data_dir}, config)
    except ConfigError as error:
        raise usage_error(str(error)) from None
