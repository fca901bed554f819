"""Generate kuueri_grpc/pb from the protos.

    python -m scripts.gen_protos            write kuueri_grpc/pb anew
    python -m scripts.gen_protos --check    fail when the committed code is not what the protos give

protoc lays its output out as protos/ is and imports it by that path (`from kuueri.tasks.v1 import
task_pb2`), which works from the top of the import path alone. Here the modules lie flat in
`kuueri_grpc.pb` and import one another from there. The names of the descriptors (files, messages,
services) stay those of the protos: they are what clients and server reflection see.

The bytes depend on the versions of grpcio-tools and mypy-protobuf; constraints.txt pins both.
"""

import argparse
import difflib
import re
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO_ROOT = ROOT / "protos"
PROTO_PACKAGE = Path("kuueri/tasks/v1")
TARGET = ROOT / "kuueri_grpc" / "pb"
PYTHON_PACKAGE = "kuueri_grpc.pb"

INIT = '''\
"""Messages, services and their types, generated from protos/. Do not edit: run `make protos`."""
'''

# Module references only: in a descriptor or a method name the proto package is not followed by one.
_MODULE = re.compile(r"\bkuueri\.tasks\.v1(\.| import )(?=\w+_pb2)")
_MODULE_PATH = re.compile(r"\bkuueri/tasks/v1/(?=\w+_pb2)")
_SERVICE = re.compile(r"^service \w+", re.MULTILINE)

_DIFF_LINES = 12
_DIFF_WIDTH = 140


class CodegenError(Exception):
    """protoc refused the protos or is not installed; the message is what it said."""


def relocate(code: str) -> str:
    """Make generated code import its siblings from `kuueri_grpc.pb`."""
    return _MODULE_PATH.sub(f"{PYTHON_PACKAGE.replace('.', '/')}/", _MODULE.sub(rf"{PYTHON_PACKAGE}\1", code))


def generate(out: Path) -> None:
    """Write the whole package, `__init__.py` included, into the empty directory `out`.

    Raises:
        CodegenError: protoc failed.
    """
    protos = sorted((PROTO_ROOT / PROTO_PACKAGE).glob("*.proto"))
    services = [proto for proto in protos if _SERVICE.search(proto.read_text(encoding="utf-8"))]
    with tempfile.TemporaryDirectory() as scratch:
        run_protoc(protos, f"--python_out={scratch}", f"--mypy_out=quiet:{scratch}")
        # Apart, because the plugin writes an empty module for a file without a service.
        run_protoc(services, f"--grpc_python_out={scratch}", f"--mypy_grpc_out=quiet:{scratch}")
        for module in sorted((Path(scratch) / PROTO_PACKAGE).iterdir()):
            code = relocate(module.read_text(encoding="utf-8"))
            (out / module.name).write_text(code, encoding="utf-8")
    (out / "__init__.py").write_text(INIT, encoding="utf-8")


def run_protoc(protos: list[Path], *outputs: str) -> None:
    """Run protoc with our plugins on files below protos/. Raises `CodegenError`."""
    plugins = Path(sysconfig.get_path("scripts"))
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"--proto_path={PROTO_ROOT}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        *outputs,
        *map(str, protos),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CodegenError(done.stderr.strip() or f"protoc ended with status {done.returncode}")


def _sources(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.py*") if path.is_file()}


def differences(committed: dict[str, str], fresh: dict[str, str]) -> list[str]:
    """Say, file by file, how committed code differs from fresh code; empty when it does not."""
    report = []
    for name in sorted(committed.keys() | fresh.keys()):
        if name not in committed:
            report.append(f"missing  {name}")
        elif name not in fresh:
            report.append(f"stale    {name} (no proto gives it)")
        elif committed[name] != fresh[name]:
            report.extend(_difference(name, committed[name], fresh[name]))
    return report


def _difference(name: str, committed: str, fresh: str) -> list[str]:
    diff = difflib.unified_diff(committed.splitlines(), fresh.splitlines(), lineterm="", n=0)
    changed = [line for line in list(diff)[2:] if not line.startswith("@@")]
    added = sum(line.startswith("+") for line in changed)
    # The serialised descriptor is one line of thousands of characters.
    shown = [f"    {line[:_DIFF_WIDTH]}" for line in changed[:_DIFF_LINES]]
    if len(changed) > _DIFF_LINES:
        shown.append(f"    ... {len(changed) - _DIFF_LINES} more lines")
    return [f"differs  {name} (+{added} -{len(changed) - added} lines)", *shown]


def write() -> int:
    """Replace the committed package; returns the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = _sources(Path(scratch))
    TARGET.mkdir(exist_ok=True)
    for stale in _sources(TARGET).keys() - fresh.keys():
        (TARGET / stale).unlink()
    for name, code in fresh.items():
        (TARGET / name).write_text(code, encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {len(fresh)} files written")
    return 0


def check() -> int:
    """Compare the committed package with what the protos give; returns the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        report = differences(_sources(TARGET), _sources(Path(scratch)))
    if not report:
        print(f"{TARGET.relative_to(ROOT)}: up to date")
        return 0
    tools = ", ".join(f"{tool} {version(tool)}" for tool in ("grpcio-tools", "mypy-protobuf"))
    print(f"{TARGET.relative_to(ROOT)} is not what protos/ gives with {tools}:", file=sys.stderr)
    print(*report, "Run `make protos` and commit the result.", sep="\n", file=sys.stderr)
    return 1


def main() -> int:
    """Run from the command line; returns the exit status: 0, 1 for a difference, 2 for a failure."""
    parser = argparse.ArgumentParser(description="Generate kuueri_grpc/pb from protos/.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    try:
        return check() if parser.parse_args().check else write()
    except CodegenError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
