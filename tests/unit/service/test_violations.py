"""The collector of faults, and how text of a caller is repeated."""

import pytest

from kuueri_grpc.service.violations import InvalidFields, Violation, Violations, entry, shown


def test_nothing_is_raised_without_a_fault() -> None:
    violations = Violations()
    violations.raise_if_any()
    assert not violations


def test_all_faults_are_raised_at_once() -> None:
    violations = Violations()
    violations.add("a", "is 1")
    violations.add("b", "is 2")
    assert violations
    with pytest.raises(InvalidFields) as caught:
        violations.raise_if_any()
    assert caught.value.violations == (Violation("a", "is 1"), Violation("b", "is 2"))
    assert caught.value.count == 2


def test_more_faults_than_a_person_reads_are_counted_and_not_kept() -> None:
    violations = Violations()
    for i in range(1_000):
        violations.add(str(i), "is bad")
    error = violations.error()
    assert error.count == 1_000
    assert len(error.violations) == 100


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("abc", "'abc'"),
        ("it's", '"it\'s"'),
        ("a\r\n\x00\x1b[31m", "'a\\r\\n\\x00\\x1b[31m'"),
        ("\u202eabc", "'\\u202eabc'"),
        ("a" * 64, f"'{'a' * 64}'"),
        ("a" * 65, f"'{'a' * 61}...'"),
    ],
)
def test_text_is_shown_quoted_escaped_and_cut(text: str, repeated: str) -> None:
    assert shown(text) == repeated


@pytest.mark.parametrize(
    ("key", "path"),
    [("team", 'labels["team"]'), ('a"]b', 'labels["a\\"]b"]'), ("x\n", 'labels["x\\n"]')],
)
def test_the_path_of_an_entry(key: str, path: str) -> None:
    assert entry("labels", key) == path
