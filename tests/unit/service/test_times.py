"""Durations and timestamps: exact to the millisecond both ways, finer parts rounded, nonsense refused."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.service.times import (
    Span,
    read_duration,
    read_timestamp,
    spoken,
    to_duration,
    to_timestamp,
)
from kuueri_grpc.service.violations import Violation, Violations

ANY = Span(0, 10**15, "0 to very long")
BEFORE_10000 = "expected an instant before the year 10000"
LAST_MS = 253_402_300_799_999


@given(st.integers(0, 10**14))
def test_a_wait_comes_back_as_it_went(wait_ms: int) -> None:
    violations = Violations()
    assert read_duration(to_duration(wait_ms), "f", ANY, violations) == wait_ms
    assert not violations


@given(st.integers(0, LAST_MS))
def test_an_instant_comes_back_as_it_went(at_ms: int) -> None:
    violations = Violations()
    assert read_timestamp(to_timestamp(at_ms), "f", violations) == at_ms
    assert not violations


@pytest.mark.parametrize(
    ("nanos", "wait_ms"), [(0, 0), (1, 1), (499_999, 1), (1_499_999, 1), (1_500_000, 2), (999_999_999, 1_000)]
)
def test_finer_parts_of_a_wait_are_rounded_but_never_to_nothing(nanos: int, wait_ms: int) -> None:
    assert read_duration(Duration(nanos=nanos), "f", ANY, Violations()) == wait_ms


@pytest.mark.parametrize(("nanos", "at_ms"), [(0, 0), (499_999, 0), (500_000, 1), (999_999_999, 1_000)])
def test_finer_parts_of_an_instant_are_rounded(nanos: int, at_ms: int) -> None:
    assert read_timestamp(Timestamp(nanos=nanos), "f", Violations()) == at_ms


@pytest.mark.parametrize(
    ("seconds", "nanos", "fault"),
    [
        (0, -1, "is negative; expected 1 ms to 2 s"),
        (-1, 0, "is negative; expected 1 ms to 2 s"),
        (-1, -500, "is negative; expected 1 ms to 2 s"),
        (0, 0, "is 0 ms; expected 1 ms to 2 s"),
        (2, 1_000_000, "is 2,001 ms; expected 1 ms to 2 s"),
        (1, -1, "is no valid Duration (seconds 1, nanos -1); expected 1 ms to 2 s"),
        (-1, 1, "is no valid Duration (seconds -1, nanos 1); expected 1 ms to 2 s"),
        (0, 10**9, "is no valid Duration (seconds 0, nanos 1000000000); expected 1 ms to 2 s"),
        (10**12, 0, "is no valid Duration (seconds 1000000000000, nanos 0); expected 1 ms to 2 s"),
    ],
)
def test_refuses_a_wait(seconds: int, nanos: int, fault: str) -> None:
    violations = Violations()
    read_duration(Duration(seconds=seconds, nanos=nanos), "f", Span(1, 2_000, "1 ms to 2 s"), violations)
    assert violations.error().violations == (Violation("f", fault),)


@pytest.mark.parametrize(
    ("seconds", "nanos", "fault"),
    [
        (-1, 0, "is before 1970-01-01T00:00:00Z; expected a later instant"),
        (0, -1, f"is no valid Timestamp (seconds 0, nanos -1); {BEFORE_10000}"),
        (0, 10**9, f"is no valid Timestamp (seconds 0, nanos 1000000000); {BEFORE_10000}"),
        (10**12, 0, f"is no valid Timestamp (seconds 1000000000000, nanos 0); {BEFORE_10000}"),
    ],
)
def test_refuses_an_instant(seconds: int, nanos: int, fault: str) -> None:
    violations = Violations()
    assert read_timestamp(Timestamp(seconds=seconds, nanos=nanos), "f", violations) is None
    assert violations.error().violations == (Violation("f", fault),)


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_007, "2023-11-14T22:13:20.007Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
        (LAST_MS + 1, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_says_an_instant(at_ms: int, text: str) -> None:
    assert spoken(at_ms) == text
