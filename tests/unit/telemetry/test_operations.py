"""`docs/operations.md` names every metric, every event, every kind of error, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from kuueri_grpc.ports import Unfinished
from kuueri_grpc.store.errors import ErrorKind

ROOT = Path(__file__).parents[3]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
SOURCES = [path for path in (ROOT / "kuueri_grpc").rglob("*.py") if "pb" not in path.parts]

#: Metrics of the client library that are counted: their names get a suffix.
COUNTER_NAME = re.compile(r"_total$")


def first_cells(header: str) -> list[str]:
    """Return what is in backquotes in the first column of the table that begins with a header."""
    body = OPERATIONS.split(f"\n| {header} |", 1)[1].split("\n\n", 1)[0]
    rows = body.splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def strings() -> Iterator[str]:
    """Yield the string literals of the program."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_metric_is_documented() -> None:
    made = {text for text in strings() if re.fullmatch(r"kuueri_[a-z_]+", text)} - {"kuueri_grpc"}
    documented = first_cells("metric")
    assert len(documented) == len(set(documented))
    assert {COUNTER_NAME.sub("", name) for name in documented} == made


def test_every_metric_in_the_alerts_and_faults_is_one() -> None:
    used = set(re.findall(r"kuueri_[a-z_]+", OPERATIONS))
    assert used == set(first_cells("metric"))


def logged_events() -> set[str]:
    events = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                events |= {
                    value.value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                    and key.value == "event"
                    and isinstance(value, ast.Constant)
                }
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_fields":
                events |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return {str(event) for event in events}


def test_every_event_is_documented() -> None:
    documented = first_cells("event | level")
    assert len(documented) == len(set(documented))
    assert set(documented) == logged_events()


def test_every_kind_of_store_error_is_documented() -> None:
    assert first_cells("kind of a store error") == list(ErrorKind)


def test_every_way_not_to_finish_is_documented() -> None:
    (row,) = re.findall(r"^\| `kuueri_attempts_total` .*$", OPERATIONS, re.MULTILINE)
    assert all(why in row for why in Unfinished)
