"""The lines that a server prints when it is ready."""

import logging
import sys
from collections.abc import Sequence

from kuueri_grpc.telemetry.log_writer import write_if_read

_log = logging.getLogger(__name__)


def print_ready(address: str | None, store: str, roles: Sequence[str]) -> None:
    """Say where the server listens (`HOST:PORT`; None: it has no gRPC server) and what its store is."""
    if address is None:
        line = f"kuueri is ready, without gRPC (roles: {', '.join(roles)}; {store})"
    else:
        only = "" if len(roles) > 1 else f"roles: {roles[0]}; "
        line = f"kuueri is ready on {address} ({only}{store})"
    print_lines(line)


def print_lines(text: str) -> None:
    """Print to standard output if that is read; a server serves without, too."""
    if not write_if_read(sys.stdout, f"{text}\n"):
        _log.warning("standard output is not read; on it would be: %s", text.partition("\n")[0])


def shown(host: str, port: int) -> str:
    """Return `host:port`, a literal IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
