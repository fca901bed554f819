"""Every claim of docs/security.md names the test that shows it, and that test exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_the_test_that_is_named_exists(file: str, name: str) -> None:
    assert re.search(rf"^ *(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_names_one() -> None:
    rows = [
        line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.endswith("shown by |")
    ]
    assert len(rows) > 40
    assert [row for row in rows if not re.search(r"\| `tests/[^|]* \|$", row)] == []


def test_nothing_else_is_named_like_a_test() -> None:
    assert len(re.findall(r"tests/[\w/]+\.py::", DOCUMENT)) == len(
        re.findall(r"`tests/[\w/]+\.py::\w+`", DOCUMENT)
    )
