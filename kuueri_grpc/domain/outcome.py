"""What one attempt came to."""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from kuueri_grpc.domain.timeline import Reason

#: Reasons of an attempt that failed.
FAILURES = (
    Reason.HTTP_STATUS,
    Reason.TIMEOUT,
    Reason.CONNECTION_REFUSED,
    Reason.CONNECTION_FAILED,
    Reason.CONNECTION_LOST,
    Reason.DNS,
    Reason.TLS,
    Reason.BLOCKED_ADDRESS,
    Reason.TOO_MANY_REDIRECTS,
    Reason.INVALID_RESPONSE,
    Reason.INTERNAL,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt.

    | | `status_code` | `reason` | `retry_after_ms` |
    |---|---|---|---|
    | a success: a whole 2xx answer | 200 to 299 | None | of no account |
    | an error answer | 100 to 199, 300 to 599 | HTTP_STATUS | the wait that the target asked for, or None |
    | no answer, or one that broke off | None | why | None |

    `detail` as in `TimelineEvent`; there is also the status of an answer that broke off.

    Raises:
        ValueError: the facts contradict each other.
    """

    latency_ms: int
    status_code: int | None = None
    reason: Reason | None = None
    retry_after_ms: int | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        match self.reason:
            case None:
                agree = _is_success(self.status_code)
            case Reason.HTTP_STATUS:
                agree = _is_status(self.status_code) and not _is_success(self.status_code)
            case _:
                agree = self.status_code is None and self.retry_after_ms is None
        if not agree:
            raise ValueError(
                f"an attempt whose facts contradict each other: reason {self.reason}, "
                f"retry after {self.retry_after_ms} ms, got status {self.status_code}"
            )

    @property
    def succeeded(self) -> bool:
        """True for a complete 2xx answer; a redirect that was not followed is an error answer."""
        return self.reason is None


def answered(
    status_code: int, latency_ms: int, retry_after_ms: int | None = None, detail: str = ""
) -> Outcome:
    """Return the outcome of a complete answer: success is 2xx, all else is an error answer."""
    reason = None if _is_success(status_code) else Reason.HTTP_STATUS
    return Outcome(latency_ms, status_code, reason, retry_after_ms, detail)


def _is_success(status_code: int | None) -> bool:
    return status_code is not None and 200 <= status_code <= 299


def _is_status(status_code: int | None) -> bool:
    return status_code is not None and 100 <= status_code <= 599


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
