"""CPU time over a stretch of a run: of the server, its store, the target, and of everybody else."""

import os
import time
from dataclasses import dataclass

from benchmarks.harness import procfs
from benchmarks.harness.server import Server
from benchmarks.harness.target import Target


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time in seconds, over `elapsed_s`. `elsewhere_s` is that of processes outside the benchmark."""

    elapsed_s: float
    server_s: float
    store_s: float
    target_s: float
    elsewhere_s: float

    @property
    def elsewhere_percent(self) -> float:
        """How much of the whole machine others used: what makes a run noisy."""
        return 100 * self.elsewhere_s / (self.elapsed_s * (os.cpu_count() or 1))

    def of_a_core_percent(self, cpu_s: float) -> float:
        """Return CPU time as a share of one core."""
        return 100 * cpu_s / self.elapsed_s


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    server_s: float
    store_s: float
    target_s: float
    ours_s: float
    machine_s: float


class Meter:
    """Measures from when it is made."""

    def __init__(self, server: Server, target: Target) -> None:
        self._server = server
        self._target = target
        self._start = self._read()

    def stop(self) -> Usage:
        """Return what was used until now."""
        start, end = self._start, self._read()
        used = {
            name: getattr(end, name) - getattr(start, name)
            for name in ("server_s", "store_s", "target_s", "ours_s", "machine_s")
        }
        ours = sum(used.values()) - used["machine_s"]
        return Usage(
            elapsed_s=end.at_s - start.at_s,
            server_s=used["server_s"],
            store_s=used["store_s"],
            target_s=used["target_s"],
            # The machine's clock counts ticks; a quiet machine may come out a little below zero.
            elsewhere_s=max(0.0, used["machine_s"] - ours),
        )

    def _read(self) -> _Reading:
        own = os.times()
        return _Reading(
            at_s=time.monotonic(),
            server_s=procfs.cpu_s(self._server.pids()),
            store_s=procfs.cpu_s([self._server.store.pid]),
            target_s=procfs.cpu_s([self._target.pid]),
            # Of children only those that have ended: clients, and never what is counted above.
            ours_s=own.user + own.system + own.children_user + own.children_system,
            machine_s=procfs.machine_busy_s(),
        )
