"""The clients in examples/ are built from protos/ alone and run the same scenario in each language."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.served import LOOPBACK, CommandProcess, Server, command, environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: What each target of examples/Makefile needs; the packages are in packages.txt beside this file.
TOOLS = {
    "python": [],
    "node": ["node", "npm", "protoc"],
    "go": ["go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc"],
    "java": ["javac", "protoc", "grpc_java_plugin"],
    "cpp": ["g++", "pkg-config", "protoc", "grpc_cpp_plugin"],
    "ruby": ["ruby", "protoc", "grpc_ruby_plugin"],
}
MAKE = str(shutil.which("make"))
SCENARIO = """\
registered
subscribed once: true
watched: SUBSCRIBED
resumed: DISPATCHED SUCCEEDED COMPLETED
batch: accepted
batch: refused tasks[1].http_target.url
canceled: TASK_STATE_CANCELED
unknown task: TASK_NOT_FOUND
bad token: TOKEN_INVALID
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server"), "--workers", "1", *LOOPBACK) as served:
        yield served


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("target")
    arguments = [command("kuueri"), "target", "--port", "0"]
    process = CommandProcess(arguments, directory, environment(directory), directory / "target.log")
    (line,) = process.lines_until(r"is ready on (\S+)")
    yield line.split(" is ready on ")[1].split()[0]
    process.send(signal.SIGINT)
    process.wait()


@pytest.mark.timeout(600)  # the C++ compiler takes most of a minute by itself
@pytest.mark.parametrize("language", TOOLS)
def test_the_scenario(language: str, server: Server, target: str) -> None:
    missing = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: install the packages of tests/packages.txt")
    for variant in ("node-dynamic", "node-static") if language == "node" else (language,):
        arguments = f"{server.address} {target}/ {variant}@example.com"
        done = subprocess.run(
            [MAKE, "-s", "-C", EXAMPLES, variant, f"PYTHON={command('python')}", f"ARGS={arguments}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4_000:]
        assert done.stdout == SCENARIO
