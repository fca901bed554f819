"""What counts as a success, and what a target asks for with Retry-After."""

import re
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kuueri_grpc
from kuueri_grpc.domain import outcome as outcomes
from kuueri_grpc.domain.outcome import Outcome, answered, parse_retry_after
from kuueri_grpc.domain.timeline import Reason
from tests.unit.domain.strategies import FAILURES, NOW_MS


@pytest.mark.parametrize("status", [200, 201, 204, 226, 299])
def test_2xx_is_success(status: int) -> None:
    outcome = answered(status, latency_ms=12)
    assert outcome.succeeded
    assert outcome == Outcome(12, status, reason=None)


@pytest.mark.parametrize("status", [100, 101, 199, 300, 301, 302, 304, 307, 400, 404, 429, 500, 503, 599])
def test_every_other_answer_is_an_error(status: int) -> None:
    outcome = answered(status, latency_ms=12, retry_after_ms=5_000)
    assert not outcome.succeeded
    assert outcome == Outcome(12, status, Reason.HTTP_STATUS, retry_after_ms=5_000)


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failure_without_an_answer_is_an_error_without_a_status(reason: Reason) -> None:
    outcome = Outcome(12, reason=reason)
    assert not outcome.succeeded
    assert outcome.status_code is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, None),
        (404, None),
        (302, None),
        (None, Reason.HTTP_STATUS),
        (200, Reason.HTTP_STATUS),
        (99, Reason.HTTP_STATUS),
        (600, Reason.HTTP_STATUS),
        (200, Reason.TIMEOUT),
        (500, Reason.TIMEOUT),
        (200, Reason.CONNECTION_LOST),
    ],
)
def test_status_and_reason_may_not_contradict(status: int | None, reason: Reason | None) -> None:
    with pytest.raises(ValueError, match=f"got status {status}"):
        Outcome(12, status, reason)


@given(
    st.none() | st.integers(-1, 1_000), st.none() | st.sampled_from(Reason), st.none() | st.integers(0, 9_999)
)
def test_there_are_three_kinds_of_outcomes_and_no_other(
    status: int | None, reason: Reason | None, retry_after_ms: int | None
) -> None:
    success = reason is None and status in range(200, 300)
    error_answer = reason is Reason.HTTP_STATUS and status in {*range(100, 200), *range(300, 600)}
    no_answer = reason not in {None, Reason.HTTP_STATUS} and status is None and retry_after_ms is None
    if success or error_answer or no_answer:
        assert Outcome(12, status, reason, retry_after_ms).succeeded is success
    else:
        with pytest.raises(ValueError, match="contradict each other"):
            Outcome(12, status, reason, retry_after_ms)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("120", 120_000),
        (" 120 ", 120_000),
        ("00000000000000000000120", 120_000),
        ("9" * 5_000, 999_999_999_999_000),
        ("1.5", None),
        ("-1", None),
        ("+1", None),
        ("120 s", None),
        ("٣", None),  # a digit, but not one of HTTP
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60_000),  # the three forms of an HTTP date
        ("Thursday, 01-Jan-70 00:01:00 GMT", 60_000),
        ("Thu Jan  1 00:01:00 1970", 60_000),
        ("Thu, 01 Jan 1970 00:01:00 -0000", 60_000),
        ("Thu, 01 Jan 1970 02:01:00 +0200", 60_000),
        ("Wed, 31 Dec 1969 23:00:00 GMT", 0),  # has passed
        ("Thu, 32 Jan 1970 00:01:00 GMT", None),
        ("Thu, 01 Jan 99999999999999999999 00:01:00 GMT", None),
        ("Thu, 01 Jan 1970 00:01:00 +99999999999999999999", None),
    ],
)
def test_retry_after(header: str | None, wait: int | None) -> None:
    assert parse_retry_after(header, now_ms=0) == wait


@pytest.fixture
def _far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put this process seven hours ahead of UTC."""
    monkeypatch.setenv("TZ", "WIB-7")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_east")
def test_a_date_without_a_zone_is_utc_wherever_the_server_is() -> None:
    assert parse_retry_after("Thu, 01 Jan 1970 00:01:00 -0000", now_ms=0) == 60_000


@given(st.integers(min_value=0, max_value=2 * NOW_MS // 1_000))
def test_retry_after_as_a_date_is_the_wait_until_then(seconds: int) -> None:
    header = formatdate(seconds, usegmt=True)
    assert parse_retry_after(header, NOW_MS) == max(0, seconds * 1_000 - NOW_MS)


_date_parts = st.sampled_from(
    ["Thu,", "01", "Jan", "1970", "00:01:00", "GMT", "+0200", "-", ",", ":", "9" * 20, "-1", "0", "1:", "é"]
)


@given(st.text() | st.lists(_date_parts, max_size=8).map(" ".join), st.integers(0, 2**53))
@example("Nov 06 Sun, 8.49.37 99999999999999999999", 0)
def test_no_header_that_a_target_sends_does_harm(header: str, now_ms: int) -> None:
    wait = parse_retry_after(header, now_ms)
    assert wait is None or wait >= 0


def test_every_reason_that_the_dispatcher_gives_is_listed() -> None:
    dispatcher = Path(kuueri_grpc.__file__).parent / "dispatcher"
    found = {
        name
        for file in dispatcher.glob("*.py")
        for name in re.findall(r"\bReason\.([A-Z_]+)", file.read_text())
    }
    assert found | {"HTTP_STATUS"} == {reason.value for reason in outcomes.FAILURES}
