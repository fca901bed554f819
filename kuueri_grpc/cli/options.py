"""Options that several commands share, and the parsers of their values.

The parsers raise `typer.BadParameter`, whose text names the option.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer

from kuueri_grpc.cli.durations import parse_duration_ms

Parsed = TypeVar("Parsed")
Choice = TypeVar("Choice", bound=StrEnum)

ADDRESS_VARIABLE = "KUUERI_ADDRESS"
TOKEN_VARIABLE = "KUUERI_TOKEN"  # noqa: S105  the name of a variable
ADMIN_TOKEN_VARIABLE = "KUUERI_ADMIN_TOKEN"  # noqa: S105  the same
DEFAULT_PORT = 8202
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
_MAX_INT32 = 2**31 - 1
#: Heading of the options that say which server is called, and how.
CONNECTION = "Connection"
#: In front of an address: over TLS, also to this machine.
TLS_SCHEME = "https://"
PLAIN_SCHEME = "http://"


def checked(parse: Callable[[str], Parsed]) -> Callable[[str], Parsed]:
    """Turn the ValueError of a parser into the error of an option."""

    def parse_option(text: str) -> Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse_option


def parse_address(text: str) -> str:
    """Return `host:port` or `https://host:port` in one spelling; without a port it is 8202, and 443.

    `http://host:port` is `host:port`: whether plain text is allowed is for `transport` to decide.

    Raises:
        ValueError: not an address of that form.
    """
    if text.lower().startswith(TLS_SCHEME):
        return TLS_SCHEME + _host_and_port(text[len(TLS_SCHEME) :].removesuffix("/"), 443)
    if text.lower().startswith(PLAIN_SCHEME):
        text = text[len(PLAIN_SCHEME) :].removesuffix("/")
    return _host_and_port(text, DEFAULT_PORT)


def _host_and_port(text: str, default_port: int) -> str:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or text.endswith(":") or parts.netloc != text or set(text) & set("@ \t") or port == 0:
        raise ValueError(f"{text!r} is not an address; expected HOST:PORT, [IPV6]:PORT or https://HOST")
    return f"{f'[{host}]' if ':' in host else host}:{port or default_port}"


def parse_count(text: str) -> int:
    """Return a whole number from 0 to the largest that a message holds.

    Raises:
        ValueError: not such a number.
    """
    if not (text.isascii() and text.isdigit() and int(text) <= _MAX_INT32):
        raise ValueError(f"{text!r} is not a whole number of 0 to {_MAX_INT32:,}")
    return int(text)


def address_flag(address: str) -> str:
    """Return ` --address HOST:PORT` to add to a command that is shown, nothing where it is the default."""
    return "" if address == DEFAULT_ADDRESS else f" --address {address}"


def parse_pair(text: str) -> tuple[str, str]:
    """Split `name=value` at its first `=`.

    Raises:
        ValueError: there is no `=`, or no name before it.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


Address = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        metavar="HOST:PORT",
        envvar=ADDRESS_VARIABLE,
        parser=checked(parse_address),
        rich_help_panel=CONNECTION,
        help="Server to call; https://HOST:PORT over TLS on this machine too.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        rich_help_panel=CONNECTION,
        # Not typer's `envvar`: an error says which of the places the token came from.
        help=f"Token of the project; else that in {TOKEN_VARIABLE}, else the one kept by `project register`.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object a line; errors too.")]


def duration_option(flag: str, text: str, panel: str | None = None) -> Any:
    """An option that takes a duration and gives milliseconds."""
    return typer.Option(
        flag, metavar="DURATION", parser=checked(parse_duration_ms), rich_help_panel=panel, help=text
    )


def tls_file_option(flag: str, text: str, panel: str | None = None, envvar: str | None = None) -> Any:
    """An option that takes the name of a PEM file."""
    return typer.Option(flag, metavar="FILE", rich_help_panel=panel, envvar=envvar, help=text)


def choice_option(choices: type[Choice], flag: str, text: str, panel: str | None = None) -> Any:
    """An option that takes the name of one of `choices`, in either case."""

    def parse(name: str) -> Choice:
        try:
            return choices(name.upper())
        except ValueError:
            raise ValueError(f"{name!r} is not one of {', '.join(choices)}") from None

    metavar = "|".join(choices)
    return typer.Option(flag, metavar=metavar, parser=checked(parse), rich_help_panel=panel, help=text)
