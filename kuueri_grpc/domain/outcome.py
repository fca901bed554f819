"""What one attempt came to."""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from kuueri_grpc.domain.timeline import Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt.

    Either the target answered (`status_code` set), or it did not and `reason` says why: a failure
    without an answer never carries a made-up status code. `retry_after_ms` is the wait that the
    target asked for. `detail` as in `TimelineEvent`.
    """

    latency_ms: int
    status_code: int | None = None
    reason: Reason | None = None
    retry_after_ms: int | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if self.status_code is None and self.reason is None:
            raise ValueError("an attempt without an answer needs a reason")

    @property
    def succeeded(self) -> bool:
        """True for a complete 2xx answer; a redirect that was not followed is an error answer."""
        return self.reason is None and self.status_code is not None and 200 <= self.status_code <= 299


def answered(status_code: int, latency_ms: int, retry_after_ms: int | None = None) -> Outcome:
    """Return the outcome of a complete answer: success is 2xx, all else is an error answer."""
    reason = None if 200 <= status_code <= 299 else Reason.HTTP_STATUS
    return Outcome(latency_ms, status_code, reason, retry_after_ms)


def parse_retry_after(value: str | None, now_ms: int) -> int | None:
    """Return the wait that a Retry-After header asks for, in milliseconds; None if absent or malformed.

    Both forms of RFC 9110, section 10.2.3: a number of seconds, or an HTTP date.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # A target may send any number of digits; far beyond every cap is all the same.
        return int(value[:12]) * 1_000
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1_000) - now_ms)
