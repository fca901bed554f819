"""Milliseconds and the well-known types: `Duration` and `Timestamp` from and to int milliseconds.

The project counts in milliseconds. Finer parts are rounded to the nearest one, except that a wait that is
not zero never becomes zero.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kuueri_grpc.service.violations import Violations

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS
TEN_YEARS_MS = 3_652 * DAY_MS + DAY_MS // 2
#: The limits of the types themselves, of their `.proto` files.
_MAX_DURATION_SECONDS = 315_576_000_000
_MAX_TIMESTAMP_SECONDS = 253_402_300_799
_NANOS_PER_SECOND = 1_000_000_000
_NANOS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """The range of a wait, both ends included, and how it is put to a person."""

    min_ms: int
    max_ms: int
    words: str


def read_duration(message: Duration, field: str, span: Span, violations: Violations) -> int:
    """Return a wait in milliseconds; 0, and a violation, where it is malformed or outside `span`."""
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _MAX_DURATION_SECONDS or abs(nanos) >= _NANOS_PER_SECOND or seconds * nanos < 0:
        violations.add(
            field, f"is no valid Duration (seconds {seconds}, nanos {nanos}); expected {span.words}"
        )
        return 0
    if seconds < 0 or nanos < 0:
        violations.add(field, f"is negative; expected {span.words}")
        return 0
    wait_ms = _round_ms(seconds, nanos)
    if wait_ms == 0 and nanos:
        wait_ms = 1
    if not span.min_ms <= wait_ms <= span.max_ms:
        violations.add(field, f"is {wait_ms:,} ms; expected {span.words}")
        return 0
    return wait_ms


def read_timestamp(message: Timestamp, field: str, violations: Violations) -> int | None:
    """Return an instant in milliseconds; None, and a violation, where it is malformed or before 1970."""
    seconds, nanos = message.seconds, message.nanos
    if seconds < 0 <= nanos < _NANOS_PER_SECOND:
        violations.add(field, "is before 1970-01-01T00:00:00Z; expected a later instant")
        return None
    if seconds > _MAX_TIMESTAMP_SECONDS or not 0 <= nanos < _NANOS_PER_SECOND:
        violations.add(
            field,
            f"is no valid Timestamp (seconds {seconds}, nanos {nanos}); "
            "expected an instant before the year 10000",
        )
        return None
    # Rounded up, the very last instant would be one past the last.
    return min(_round_ms(seconds, nanos), _MAX_TIMESTAMP_SECONDS * SECOND_MS + SECOND_MS - 1)


def _round_ms(seconds: int, nanos: int) -> int:
    return seconds * SECOND_MS + (nanos + _NANOS_PER_MS // 2) // _NANOS_PER_MS


def to_duration(wait_ms: int) -> Duration:
    """Return a wait of `wait_ms` (>= 0) as a message."""
    message = Duration()
    write_duration(message, wait_ms)
    return message


def write_duration(message: Duration, wait_ms: int) -> None:
    """Write a wait of `wait_ms` (>= 0) into an empty message, which is set thereby."""
    message.seconds = wait_ms // SECOND_MS
    message.nanos = wait_ms % SECOND_MS * _NANOS_PER_MS


def to_timestamp(at_ms: int) -> Timestamp:
    """Return an instant as a message."""
    message = Timestamp()
    write_timestamp(message, at_ms)
    return message


def write_timestamp(message: Timestamp, at_ms: int) -> None:
    """Write an instant into an empty message, which is set thereby."""
    message.seconds = at_ms // SECOND_MS
    message.nanos = at_ms % SECOND_MS * _NANOS_PER_MS


def spoken(at_ms: int) -> str:
    """Return an instant as RFC 3339 has it, for a message to a person."""
    seconds, rest_ms = divmod(at_ms, SECOND_MS)
    moment = datetime.fromtimestamp(min(seconds, _MAX_TIMESTAMP_SECONDS), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ms:03d}Z"
