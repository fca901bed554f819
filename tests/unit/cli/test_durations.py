"""Durations as they are typed and shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.cli.durations import format_duration_ms, parse_duration_ms


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("0", 0),
        ("10", 10_000),
        ("0.25", 250),
        ("500ms", 500),
        ("10s", 10_000),
        ("1.5m", 90_000),
        ("2h", 7_200_000),
        ("3d", 259_200_000),
        ("1h30m", 5_400_000),
        ("1d2h3m4s5ms", 93_784_005),
        (" 10s ", 10_000),
        ("0.001s", 1),
        ("315576000000s", 315_576_000_000_000),
    ],
)
def test_what_is_typed(text: str, expected_ms: int) -> None:
    assert parse_duration_ms(text) == expected_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "ten",
        "-1s",
        "+1s",
        "1 s",
        "1s 1ms",
        "1e3",
        "1,5s",
        ".5s",
        "5.s",
        "1s1m",
        "1s1s",
        "1w",
        "1S",
        "٣s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["0.5ms", "0.0001", "1.00001s"])
def test_what_is_too_fine(text: str) -> None:
    with pytest.raises(ValueError, match="finer than a millisecond"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["315576000001", "99999999999999999999d"])
def test_what_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 10,000 years"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("duration_ms", "expected"),
    [
        (0, "0ms"),
        (5, "5ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (1_234, "1.234s"),
        (10_000, "10s"),
        (59_999, "59.999s"),
        (60_000, "1m"),
        (90_999, "1m30s"),
        (120_000, "2m"),
        (3_600_000, "1h"),
        (3_659_000, "1h"),
        (5_400_000, "1h30m"),
        (90_000_000, "1d1h"),
        (259_200_000, "3d"),
        (-1_500, "-1.5s"),
    ],
)
def test_what_is_shown(duration_ms: int, expected: str) -> None:
    assert format_duration_ms(duration_ms) == expected


@given(st.integers(min_value=0, max_value=315_576_000_000_000))
def test_what_is_shown_can_be_typed_and_is_never_longer(duration_ms: int) -> None:
    shown_ms = parse_duration_ms(format_duration_ms(duration_ms))
    assert shown_ms <= duration_ms
    # Two units: what is cut off is less than the smaller one, at most a 24th of the whole.
    assert duration_ms - shown_ms <= duration_ms / 24


@given(st.integers(min_value=0, max_value=59_999))
def test_below_a_minute_nothing_is_lost(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration_ms(duration_ms)) == duration_ms
