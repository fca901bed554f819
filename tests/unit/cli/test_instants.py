"""Points in time as they are typed and shown."""

import time
from collections.abc import Iterator

import pytest

from kuueri_grpc.cli.instants import (
    At,
    FromNow,
    When,
    format_clock,
    format_date,
    format_local,
    format_relative,
    parse_when,
)

NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@pytest.fixture(autouse=True)
def in_jakarta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Jakarta")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", At(NEW_YEAR_MS)),
        ("2026-01-01T00:00:00.123456Z", At(NEW_YEAR_MS + 123)),
        ("2026-01-01T02:00:00+02:00", At(NEW_YEAR_MS)),
        ("2026-01-01T07:00:00", At(NEW_YEAR_MS)),
        ("2026-01-01 07:00", At(NEW_YEAR_MS)),
        ("1969-12-31T23:59:59.999Z", At(-1)),
        ("+5m", FromNow(300_000)),
        ("+0", FromNow(0)),
    ],
)
def test_what_is_typed(text: str, expected: When) -> None:
    assert parse_when(text) == expected


@pytest.mark.parametrize("text", ["", "now", "tomorrow", "12:00", "2026-13-01T00:00:00Z", "1767225600", "5m"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instant"):
        parse_when(text)


def test_a_wait_is_refused_as_a_duration() -> None:
    with pytest.raises(ValueError, match="'-5m' is not a duration"):
        parse_when("+-5m")


def test_times_are_shown_in_local_time() -> None:
    assert format_local(NEW_YEAR_MS + 7) == "2026-01-01 07:00:00.007+07:00"
    assert format_clock(NEW_YEAR_MS + 7) == "07:00:00.007"
    assert format_date(NEW_YEAR_MS - 3_600_000) == "2026-01-01"
    assert format_local(-1) == "1970-01-01 06:59:59.999+07:00"


@pytest.mark.parametrize(
    ("offset_ms", "expected"),
    [
        (0, "now"),
        (499, "now"),
        (-499, "now"),
        (1_500, "in 2s"),
        (300_000, "in 5m"),
        (-300_000, "5m ago"),
        (-7_260_000, "2h1m ago"),
    ],
)
def test_distances_are_shown_in_seconds(offset_ms: int, expected: str) -> None:
    assert format_relative(NEW_YEAR_MS + offset_ms, NEW_YEAR_MS) == expected
