"""What one attempt came to."""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from kuueri_grpc.domain.timeline import Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt.

    A success has a 2xx `status_code` and no `reason`. An error answer has its `status_code` and
    HTTP_STATUS. Any other failure has the reason for it; it never carries a made-up status code, but
    may carry that of an answer which broke off. `retry_after_ms` is the wait that the target asked
    for. `detail` as in `TimelineEvent`.

    Raises:
        ValueError: status code and reason contradict each other.
    """

    latency_ms: int
    status_code: int | None = None
    reason: Reason | None = None
    retry_after_ms: int | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason is None and not _is_success(self.status_code):
            raise ValueError(f"an attempt without a 2xx answer needs a reason, got status {self.status_code}")
        if self.reason is Reason.HTTP_STATUS and (self.status_code is None or _is_success(self.status_code)):
            raise ValueError(f"{self.reason} is for an error answer, got status {self.status_code}")

    @property
    def succeeded(self) -> bool:
        """True for a complete 2xx answer; a redirect that was not followed is an error answer."""
        return self.reason is None


def answered(status_code: int, latency_ms: int, retry_after_ms: int | None = None) -> Outcome:
    """Return the outcome of a complete answer: success is 2xx, all else is an error answer."""
    reason = None if _is_success(status_code) else Reason.HTTP_STATUS
    return Outcome(latency_ms, status_code, reason, retry_after_ms)


def _is_success(status_code: int | None) -> bool:
    return status_code is not None and 200 <= status_code <= 299


def parse_retry_after(value: str | None, now_ms: int) -> int | None:
    """Return the wait that a Retry-After header asks for, in milliseconds; None if absent or malformed.

    Both forms of RFC 9110, section 10.2.3: a number of seconds, or an HTTP date.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # A target may send any number of digits; far beyond every cap is all the same.
        return int(value.lstrip("0")[:12] or "0") * 1_000
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter: a year or an offset of any number of digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1_000) - now_ms)
