"""How many cores there are for this process: those that it may run on, within what its quota pays for."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process can keep busy, at least 1.

    Containers limit CPU by a quota of the control group (`docker run --cpus`, `resources.limits.cpu` in
    Kubernetes): the process sees all cores of the machine, and is stopped for the rest of each period once
    its quota is used up. A part of a core counts as one.

    Args:
        root: where `proc` and `sys` are.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([usable, *(max(1, math.ceil(quota)) for quota in _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas (cores) of the control group of this process, and of those that it is in."""
    for line in _words(root / "proc/self/cgroup", "\n"):
        # Version 2 has one hierarchy, numbered 0, without a name; version 1 has one for each controller.
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        mounts = root / "sys/fs/cgroup"
        if hierarchy == "0" and not controllers:
            read = _quota_of_version_2
        elif "cpu" in controllers.split(","):
            read, mounts = _quota_of_version_1, mounts / "cpu"
        else:
            continue
        for group in _enclosing(path):
            quota = read(mounts / group)
            if quota is not None:
                yield quota


def _enclosing(path: str) -> Iterator[str]:
    """Yield a group's path below the mount point, then those of the groups around it, the root included.

    In a container the path may be one of the host, and the mount point the group itself.
    """
    group = PurePosixPath(path.lstrip("/"))
    yield str(group)
    yield from map(str, group.parents)


def _quota_of_version_2(group: Path) -> float | None:
    match _words(group / "cpu.max"):
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            return int(quota) / int(period)
        case _:
            return None


def _quota_of_version_1(group: Path) -> float | None:
    match _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us"):
        case [[quota], [period]] if quota.isdigit() and period.isdigit() and int(period):
            # Without a quota it is -1.
            return int(quota) / int(period)
        case _:
            return None


def _words(file: Path, separator: str | None = None) -> list[str]:
    """Return the words of a file; none if it cannot be read, as on systems without control groups."""
    try:
        return file.read_text().strip().split(separator)
    except (OSError, UnicodeDecodeError):
        return []
