"""How valkey-server is called: its configuration, and what it has of the environment."""

from collections.abc import Mapping
from pathlib import Path

#: The wheel's server allocates with the C library, which keeps seven freed pieces of each size at hand. A
#: script on a hundred tasks frees thousands, mostly small: where they do not fit, they come back scattered,
#: each a cache miss. Of up to 224 bytes as many are kept as it can count, 125 MB at most; with larger ones
#: too it could be 2.2 GB (docs/performance.md, "A million waiting tasks").
_GLIBC_TUNABLES = "glibc.malloc.tcache_count=65535:glibc.malloc.tcache_max=224"
#: What goes on to the server, by how names begin: for its locale, clock, allocator and loader.
_PASSED_ON = ("GLIBC_TUNABLES", "LANG", "LC_", "LD_", "MALLOC_", "PATH", "TMPDIR", "TZ")


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what valkey-server has use for: whatever else is in an environment may be a secret."""
    kept = {name: value for name, value in ours.items() if name.startswith(_PASSED_ON)}
    return {"GLIBC_TUNABLES": _GLIBC_TUNABLES, **kept}


def arguments(data_dir: Path, socket: Path, log: Path, fsync: str) -> list[str]:
    """Return valkey-server's configuration. It is given as arguments, so no file of it can grow stale."""
    return [
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--protected-mode", "yes"),
        *("--daemonize", "no"),
        *("--dir", str(data_dir)),
        *("--pidfile", str(data_dir / "valkey.pid")),
        *("--logfile", str(log)),
        *("--appendonly", "yes"),
        *("--appendfsync", fsync),
        # A write that a power cut tore off at the end of the file was never synced, so it is not missed.
        *("--aof-load-truncated", "yes"),
        *("--save", "3600", "1", "300", "100", "60", "10000"),
        # Stopping syncs the append-only file, which has everything; a snapshot of a large store would
        # only make it slow, and a killed process's server would stay for as long.
        *("--shutdown-on-sigterm", "nosave"),
        *("--maxmemory-policy", "noeviction"),
        # A task's request and policies are a hash of two or three fields: packed, it takes 180 bytes less.
        *("--hash-max-listpack-value", "1024"),
    ]
