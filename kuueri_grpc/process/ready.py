"""The one line that a server prints when it is ready."""

from collections.abc import Sequence


def print_ready(address: str | None, store: str, roles: Sequence[str]) -> None:
    """Say where the server listens (`HOST:PORT`; None: it has no gRPC server) and what its store is."""
    if address is None:
        line = f"kuueri is ready, without gRPC (roles: {', '.join(roles)}; {store})"
    else:
        only = "" if len(roles) > 1 else f"roles: {roles[0]}; "
        line = f"kuueri is ready on {address} ({only}{store})"
    print(line, flush=True)  # noqa: T201


def shown(host: str, port: int) -> str:
    """Return `host:port`, a literal IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
