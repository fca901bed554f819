"""Processes load what they need, and no more."""

import subprocess
import sys


def test_a_supervisor_does_not_import_what_only_workers_need() -> None:
    heavy = ("grpc", "aiohttp", "httpx", "uvloop", "prometheus_client", "msgpack")
    assert imported_by("kuueri_grpc.supervisor, kuueri_grpc.cli.serve", heavy) == "[]"


def test_a_worker_does_not_import_what_is_for_terminals() -> None:
    assert imported_by("kuueri_grpc.worker", ("click", "pygments", "rich", "typer")) == "[]"


def test_who_imports_the_package_keeps_the_whole_of_httpx() -> None:
    assert imported_by("kuueri_grpc.pb, httpx", ("httpx._main", "click")) == "['httpx._main', 'click']"


def imported_by(modules: str, names: tuple[str, ...]) -> str:
    code = f"import sys; import {modules}\nprint([name for name in {names} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()
