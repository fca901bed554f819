"""How client commands reach their server: over TLS, or in plain text where nobody else can listen."""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import grpc
import typer

from kuueri_grpc.cli.errors import EXIT_USAGE, CliError, usage_error
from kuueri_grpc.cli.options import CONNECTION, TLS_SCHEME, tls_file_option
from kuueri_grpc.domain.hosts import is_loopback

Result = TypeVar("Result")

TlsCa = Annotated[
    Path | None,
    tls_file_option(
        "--tls-ca", "Authority of the server's certificate.", panel=CONNECTION, envvar="KUUERI_TLS_CA"
    ),
]
TlsCert = Annotated[
    Path | None,
    tls_file_option(
        "--tls-cert", "Certificate to show to the server.", panel=CONNECTION, envvar="KUUERI_TLS_CERT"
    ),
]
TlsKey = Annotated[
    Path | None,
    tls_file_option("--tls-key", "Private key of that.", panel=CONNECTION, envvar="KUUERI_TLS_KEY"),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        rich_help_panel=CONNECTION,
        envvar="KUUERI_INSECURE",
        help="Call a server on another machine in plain text, token and all.",
    ),
]


_OPTIONS: dict[str, tuple[Any, object]] = {
    "tls_ca": (TlsCa, None),
    "tls_cert": (TlsCert, None),
    "tls_key": (TlsKey, None),
    "insecure": (Insecure, False),
}


@dataclass(frozen=True, slots=True)
class Transport:
    """What was asked for. TLS is used to other machines in any case, unless it is `insecure`."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def channel(self, address: str, options: tuple[tuple[str, int], ...]) -> grpc.Channel:
        """Return a channel to `HOST:PORT` or `https://HOST:PORT`, not connected yet.

        Raises:
            CliError: Options contradict each other, or a file cannot be read.
        """
        target = address.removeprefix(TLS_SCHEME)
        if not self._uses_tls(address):
            return grpc.insecure_channel(target, options=options)
        return grpc.secure_channel(target, self._credentials(), options=options)

    def _uses_tls(self, address: str) -> bool:
        asked = address.startswith(TLS_SCHEME) or self.ca is not None or self.cert is not None
        if asked and self.insecure:
            raise usage_error("--insecure is plain text: it does not go with https:// and --tls-...")
        if (self.cert is None) != (self.key is None):
            raise usage_error("--tls-cert and --tls-key go together")
        return asked or not (self.insecure or is_local(address))

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


_DEFAULT = Transport()
_current: ContextVar[Transport] = ContextVar("transport", default=_DEFAULT)


def current_transport() -> Transport:
    """Return the one of the command that runs."""
    return _current.get()


def secured(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a client command the options of TLS; it runs with them in force, and need not know them."""

    @functools.wraps(command)
    def run(**options: Any) -> Result:
        ca, cert, key, insecure = (options.pop(name) for name in _OPTIONS)
        token = _current.set(Transport(ca, cert, key, insecure))
        try:
            return command(**options)
        finally:
            _current.reset(token)

    # What typer reads the options from.
    signature = inspect.signature(command)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _OPTIONS.items()
    ]
    parameters = [*signature.parameters.values(), *added]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **{one.name: one.annotation for one in added}}
    return run


def is_local(address: str) -> bool:
    """Whether the address is this machine's own."""
    return is_loopback(address.removeprefix(TLS_SCHEME).rpartition(":")[0].strip("[]"))


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}", exit_code=EXIT_USAGE) from error
