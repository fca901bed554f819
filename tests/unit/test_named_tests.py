"""Documents that name tests as the proof of what they say: the tests are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"tests/[\w/]+\.py(?:::\w+)*")


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def missing(name: str) -> bool:
    """Whether there is no such file, or no class or function of that name in it."""
    path, *parts = name.split("::")
    if not (ROOT / path).is_file():
        return True
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for part in parts:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in body if isinstance(node, kinds) and node.name == part]
        if not found:
            return True
        body = found[0].body
    return False


def test_every_test_that_a_document_names_is_there() -> None:
    named = {
        (path.relative_to(ROOT), name)
        for path in documents()
        for name in _NAMED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(named) > 60
    assert sorted((path, name) for path, name in named if missing(name)) == []


@pytest.mark.parametrize(
    "name",
    ["tests/unit/test_named_tests.py::missing::body", "tests/unit/test_nothing.py", "tests/conftest.py::no"],
)
def test_what_is_not_there_is_found_to_be_missing(name: str) -> None:
    assert missing(name)


def test_every_fault_names_a_test() -> None:
    proofs = (ROOT / "docs/faults.md").read_text(encoding="utf-8").split("## Measured")[0]
    lines = re.findall(r"^\| .*$", proofs, re.MULTILINE)
    faults = [line for line in lines if not line.startswith("| fault |")]
    assert len(faults) > 30
    assert [line for line in faults if not _NAMED.search(line.rsplit("|", 2)[1])] == []
