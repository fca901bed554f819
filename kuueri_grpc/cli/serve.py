"""`kuueri serve`: the server itself."""

import asyncio
import contextlib
import logging
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from kuueri_grpc.cli.credentials import CredentialsFile
from kuueri_grpc.cli.errors import CliError, usage_error
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.options import (
    ADMIN_TOKEN_VARIABLE,
    TLS_SCHEME,
    TOKEN_VARIABLE,
    address_flag,
    tls_file_option,
)
from kuueri_grpc.config import ConfigError, Settings, load_settings
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.ready import print_lines
from kuueri_grpc.supervisor import supervise

app = typer.Typer(rich_markup_mode=None)


@app.command("serve", cls=SectionedCommand)
def serve(
    *,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on; 0 picks a free one.")] = None,
    tls_cert: Annotated[
        Path | None, tls_file_option("--tls-cert", "Certificate of the server, with its chain (PEM).")
    ] = None,
    tls_key: Annotated[Path | None, tls_file_option("--tls-key", "Private key of the certificate.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        tls_file_option("--tls-client-ca", "Authorities that clients must have a certificate of."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow plain text beyond this machine.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Directory of the embedded store.")
    ] = None,
    fsync: Annotated[
        str | None,
        typer.Option(
            "--fsync",
            metavar="WHEN",
            help="When the embedded store syncs to disk: always (before it answers; default) or everysec.",
        ),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url", metavar="URL", help="Redis or Valkey to use instead of the embedded store."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Processes that share port and work; one per core."),
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles", metavar="ROLES", help="What to do: answer calls (api), run tasks (scheduler), or both."
        ),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option("--grace", metavar="SECONDS", help="What it may take to stop; 10 by default."),
    ] = None,
    allow_target: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-target",
            metavar="RULE",
            help="Network or name that tasks may be sent to though it is refused by default. Repeatable.",
        ),
    ] = None,
    deny_target: Annotated[
        list[str] | None,
        typer.Option(
            "--deny-target",
            metavar="RULE",
            help="Network or name (*.corp.example: all below) that no task is sent to. Repeatable.",
        ),
    ] = None,
    egress_proxy: Annotated[
        str | None,
        typer.Option(
            "--egress-proxy",
            metavar="URL",
            help="HTTP proxy (CONNECT) on the way to targets: http://HOST:PORT.",
        ),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            "--admin-port",
            metavar="PORT",
            help="Port for /healthz, /readyz and /metrics over HTTP; without it there are none.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (JSON).")
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR; DEVELOPMENT."),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option("--log-format", metavar="FORMAT", help="human (the default) or json."),
    ] = None,
) -> None:
    """Run the server until it is stopped.

    Without --redis-url or DATABASE.REDIS it keeps everything in an embedded store under --data-dir, which
    survives a restart. What is not given is taken from TASKS_... in the environment, the configuration
    file, and the defaults (127.0.0.1:8202).
    """
    options = {
        "host": host,
        "port": port,
        "tls.cert": tls_cert,
        "tls.key": tls_key,
        "tls.client_ca": tls_client_ca,
        "insecure": insecure or None,
        "level": log_level,
        "log_format": log_format,
        "admin_port": admin_port,
        "workers": workers,
        "roles": roles,
        "grace": grace,
        "data_dir": data_dir,
        "database.fsync": fsync,
        "allow_target": allow_target or None,
        "deny_target": deny_target or None,
        "egress_proxy": egress_proxy,
        "database.redis.url": redis_url,
    }
    try:
        settings = load_settings(options, config)
    except ConfigError as error:
        raise usage_error(str(error)) from None
    try:
        _run(settings)
    except StartError as error:
        raise CliError(str(error)) from None
    finally:
        # Before the error is shown: what is in the log came before it.
        logging.shutdown()


def _run(settings: Settings) -> None:
    steps = first_steps if settings.tls.cert is None else first_steps_over_tls

    def show(address: str) -> None:
        print_lines("\n".join(steps(reachable(address), wants_admin=settings.admin_token is not None)))

    if settings.workers > 1:
        asyncio.run(supervise(settings, on_ready=show))
        return
    # Here, so that a supervisor, which stays as long as its workers, is spared what only they need.
    import uvloop

    from kuueri_grpc.app import serve as serve_alone
    from kuueri_grpc.process.leave import leave

    async def alone() -> None:
        await serve_alone(settings, on_ready=show)
        leave(0)

    uvloop.run(alone())


def first_steps(address: str, *, wants_admin: bool = False) -> list[str]:
    """Return what a person can do next, in commands that work as they are pasted.

    `wants_admin`: Register needs the admin token, which is taken from where the server may have it, too.
    """
    kuueri, grpcurl = command_path("kuueri"), command_path("grpcurl")
    flag = address_flag(address)
    if _knows(address):
        return [
            "In another terminal:",
            f"  {grpcurl} -plaintext {address} list",
            f"  {kuueri} subscribe{flag} https://example.com/ --watch",
        ]
    authorization = f"authorization: Bearer ${TOKEN_VARIABLE}"
    subscribe = shlex.quote('{"task": {"http_target": {"url": "https://example.com/"}}}')
    method = "kuueri.tasks.v1.TaskService/Subscribe"
    return [
        "In another terminal:",
        f"  {grpcurl} -plaintext {address} list",
        f'  eval "$({_admin(wants_admin)}{kuueri} project register{flag} --email you@example.com --export)"',
        f'  {grpcurl} -plaintext -H "{authorization}" -d {subscribe} {address} {method}',
        f"  {kuueri} list{flag}",
    ]


def _knows(address: str) -> bool:
    try:
        return CredentialsFile().is_kept(address)
    except CliError:
        return False


def _admin(wanted: bool) -> str:
    # Not as an option: that could be seen by every user of the machine.
    return f'{ADMIN_TOKEN_VARIABLE}="$TASKS_ADMIN_TOKEN" ' if wanted else ""


def first_steps_over_tls(address: str, *, wants_admin: bool = False) -> list[str]:
    """Like `first_steps`, but for the host: that is the one that the certificate names."""
    kuueri, flag = command_path("kuueri"), address_flag(f"{TLS_SCHEME}{address}")
    return [
        "In another terminal, with a host that the certificate names (--tls-ca FILE: its authority):",
        f"  {_admin(wants_admin)}{kuueri} project register{flag} --email you@example.com",
        f"  {kuueri} subscribe{flag} https://example.com/ --watch",
    ]


def reachable(address: str) -> str:
    """Return where a client on this machine finds a server that listens on `address`."""
    host, _, port = address.rpartition(":")
    loopback = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  compared, not listened on
    return f"{loopback.get(host, host)}:{port}"


def command_path(name: str) -> str:
    """Return how a command that was installed with this one is called from here."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not beside.exists() or (found is not None and Path(found).samefile(beside)):
        return name
    with contextlib.suppress(ValueError):
        beside = beside.relative_to(Path.cwd())
    return shlex.quote(str(beside))
