"""A supervisor is small."""

import subprocess
import sys


def test_it_does_not_import_what_only_workers_need() -> None:
    code = (
        "import sys; import kuueri_grpc.supervisor, kuueri_grpc.cli.serve\n"
        "print([name for name in ('grpc', 'aiohttp', 'httpx', 'uvloop', 'prometheus_client', 'msgpack')"
        " if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
