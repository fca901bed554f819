"""`kuueri serve` as its users run it: a process of its own, on its embedded store."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio

from benchmarks.harness import procfs
from benchmarks.harness.children import Child, python_module, running
from benchmarks.harness.store import StoreProbe
from benchmarks.model import BenchmarkFailed, Options

#: Long enough to read a million tasks from disk.
_READY_TIMEOUT_S = 180.0
_READY = re.compile(r"ready on (\S+)")
#: Benchmarks are about cost, not about quotas.
_QUEUE_LIMIT = 10_000_000


class Server:
    """A server that runs, and its store."""

    def __init__(self, child: Child, address: str, store: StoreProbe) -> None:
        self._child = child
        self.address = address
        self.store = store

    @property
    def pid(self) -> int:
        """The process that was started; with more than one, the one that supervises the others."""
        return self._child.pid

    def pids(self) -> list[int]:
        """Return its processes, without those of the store."""
        store = set(procfs.tree(self.store.pid))
        return [pid for pid in procfs.tree(self.pid) if pid not in store]


@contextlib.asynccontextmanager
async def serving(options: Options, directory: Path) -> AsyncIterator[Server]:
    """Run a server for as long as the block lasts, on what an earlier one has left in the directory."""
    data_dir = directory / "data"
    environment = {"TASKS_SERVICE__QUEUE__LIMIT": str(_QUEUE_LIMIT), **options.settings}
    arguments = [
        *python_module("kuueri_grpc.cli"),
        "serve",
        *("--port", "0", "--data-dir", data_dir, "--allow-target", "127.0.0.0/8", "--log-level", "WARNING"),
        *options.serve_arguments,
    ]
    async with running("server", arguments, directory, environment) as child:
        line = await child.line(_READY_TIMEOUT_S)
        ready = _READY.search(line)
        if ready is None:
            raise BenchmarkFailed(f"expected the server to say that it is ready, it said {line!r}")
        with StoreProbe.open(data_dir) as store:
            try:
                yield Server(child, ready[1], store)
            except grpc.aio.AioRpcError as error:
                raise child.failure(f"answered {error.code().name}: {error.details()}") from error
