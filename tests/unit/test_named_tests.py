"""Documents that name tests as the proof of what they say: the tests are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"tests/[\w/]+\.py(?:::\w+)*")
_KINDS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def missing(name: str) -> bool:
    """Whether there is no such file, or no test or class of that name in it, in whatever class."""
    path, *parts = name.split("::")
    if not (ROOT / path).is_file():
        return True
    place: ast.AST = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for part in parts:
        found = [node for node in ast.walk(place) if isinstance(node, _KINDS) and node.name == part]
        if not found:
            return True
        place = found[0]
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


@pytest.mark.parametrize(
    ("document", "last_header", "at_least"),
    [("docs/faults.md", "tests", 30), ("docs/security.md", "shown by", 40)],
)
def test_every_row_of_a_proof_names_one(document: str, last_header: str, at_least: int) -> None:
    proofs = (ROOT / document).read_text(encoding="utf-8").split("## Measured")[0]
    lines = [line.rstrip("| ") for line in proofs.splitlines() if line.startswith("| ")]
    rows = [line for line in lines if not line.endswith(f"| {last_header}")]
    assert len(rows) > at_least
    assert [row for row in rows if not _NAMED.search(row.rpartition(" | ")[2])] == []
