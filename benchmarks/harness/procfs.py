"""What Linux tells about processes: CPU time, memory, switches."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: Fields of the first line of /proc/stat in which a core did not work.
_IDLE_FIELDS = {"idle": 3, "iowait": 4}
#: user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
_FIELDS = 8


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [pid]
    for parent in pids:
        # A process may end while it is looked at, here and below.
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
    return pids


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time (s) that processes have used, all their threads together.

    Read from the clock of each process, which counts nanoseconds; /proc/<pid>/stat counts ticks of 10 ms.
    """
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            # The clock's id is made as clock_getcpuclockid(3) makes it; Python does not wrap that call.
            total += time.clock_gettime((~pid << 3) | 2)
    return total


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of processes."""
    return sum(_status(pid, "VmRSS") * 1024 for pid in pids)


def switches(pids: Iterable[int]) -> int:
    """Return how often the threads of processes have gone to sleep: each is woken again later."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                total += _status(pid, "voluntary_ctxt_switches", thread / "status")
    return total


def machine_busy_s() -> float:
    """Return the time (s) for which the cores have worked, added up; time that the host took away counts."""
    first_line = Path("/proc/stat").read_text().split("\n", 1)[0]
    ticks = [int(field) for field in first_line.split()[1 : 1 + _FIELDS]]
    return (sum(ticks) - sum(ticks[place] for place in _IDLE_FIELDS.values())) / _TICKS_PER_S


def _status(pid: int, name: str, path: Path | None = None) -> int:
    with contextlib.suppress(OSError):
        for line in (path or Path(f"/proc/{pid}/status")).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0
