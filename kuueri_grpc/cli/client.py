"""The connection of the client commands: where it goes, with which token, and its calls."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import grpc

from kuueri_grpc.cli.credentials import CredentialsFile
from kuueri_grpc.cli.errors import EXIT_USAGE, CliError
from kuueri_grpc.cli.options import ADMIN_TOKEN_VARIABLE, TOKEN_VARIABLE
from kuueri_grpc.cli.rpc_errors import to_cli_error
from kuueri_grpc.cli.transport import current_transport, is_local
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub
from kuueri_grpc.pb.server_service_pb2_grpc import ServerServiceStub
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub

Request = TypeVar("Request")
Response = TypeVar("Response")

#: A call without an answer ends after this long.
CALL_TIMEOUT_S = 30.0
#: A stream is taken for dead when a ping has no answer. The server's heartbeat comes every 15 s, so a
#: ping in between never comes to it as one too many.
_KEEPALIVE = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000))


@dataclass(frozen=True, slots=True)
class Connection:
    """A server, and the token to call it with; `token_source` says for people where that came from."""

    address: str
    token: str | None = field(default=None, repr=False)
    token_source: str = ""


def resolve_connection(address: str, token_option: str | None, notice: Callable[[str], None]) -> Connection:
    """Take the token from the option, else the environment, else the credentials file, else none.

    `notice` is told if others than its owner may read that file.

    Raises:
        CliError: The credentials file cannot be read, or the token cannot be one.
    """
    if token_option:
        return Connection(address, _header_value(token_option, "--token"), "--token")
    if token := os.environ.get(TOKEN_VARIABLE):
        return Connection(address, _header_value(token, TOKEN_VARIABLE), TOKEN_VARIABLE)
    file = CredentialsFile()
    kept = file.current(address)
    if kept is None:
        return Connection(address)
    if warning := file.exposure():
        notice(warning)
    return Connection(address, _header_value(kept.token, str(file.path)), str(file.path))


def admin_connection(address: str, admin_token_option: str | None) -> Connection:
    """Take the admin token of the server from the option, else the environment, else none.

    Raises:
        CliError: It cannot be one.
    """
    if admin_token_option:
        return Connection(address, _header_value(admin_token_option, "--admin-token"), "--admin-token")
    if token := os.environ.get(ADMIN_TOKEN_VARIABLE):
        return Connection(address, _header_value(token, ADMIN_TOKEN_VARIABLE), ADMIN_TOKEN_VARIABLE)
    return Connection(address)


def _header_value(token: str, source: str) -> str:
    token = token.strip()
    if not (token and token.isascii() and token.isprintable()):
        raise CliError(f"the token from {source} has characters that no token has", exit_code=EXIT_USAGE)
    return token


class Client:
    """The stubs of a server, and `call`. A context manager: leaving it closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channel = current_transport().channel(connection.address, _channel_options(connection.address))
        self.tasks = TaskServiceStub(self._channel)
        self.projects = ProjectServiceStub(self._channel)
        self.server = ServerServiceStub(self._channel)

    @classmethod
    def open(cls, address: str, token_option: str | None, notice: Callable[[str], None]) -> Self:
        """Connect as `resolve_connection` says."""
        return cls(resolve_connection(address, token_option, notice))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries: the token, if there is one."""
        token = self.connection.token
        return () if token is None else (("authorization", f"Bearer {token}"),)

    def call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """Make one call.

        Raises:
            CliError: The server refused it, or did not answer within `CALL_TIMEOUT_S`.
        """
        try:
            return method(request, timeout=CALL_TIMEOUT_S, metadata=self.metadata)
        except grpc.RpcError as error:
            raise to_cli_error(error, self.connection.address, self.connection.token_source) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()


def _channel_options(address: str) -> tuple[tuple[str, int], ...]:
    # A proxy from the environment has no way to this machine's loopback interface.
    return (*_KEEPALIVE, ("grpc.enable_http_proxy", 0)) if is_local(address) else _KEEPALIVE
