"""Points in time as people write them (`2026-01-01T00:00:00Z`, `+5m`) and as they read them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from kuueri_grpc.cli.durations import format_duration_ms, parse_duration_ms


class When:
    """A point in time as it was asked for: `At` or `FromNow`."""


@dataclass(frozen=True, slots=True)
class At(When):
    """An instant, in milliseconds since the Unix epoch."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class FromNow(When):
    """A wait from now, in milliseconds."""

    in_ms: int


def parse_when(text: str) -> When:
    """Read `+DURATION` or an ISO 8601 date and time; without an offset it is local time.

    Raises:
        ValueError: neither of the two.
    """
    if text.startswith("+"):
        return FromNow(parse_duration_ms(text[1:]))
    try:
        instant = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not an instant; expected one like 2026-01-01T00:00:00Z or +5m from now"
        ) from None
    since_epoch = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return At((since_epoch.days * 86_400 + since_epoch.seconds) * 1_000 + since_epoch.microseconds // 1_000)


def _local(instant_ms: int) -> datetime:
    seconds, rest_ms = divmod(instant_ms, 1_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest_ms * 1_000).astimezone()


def format_local(instant_ms: int) -> str:
    """Return the instant as ISO 8601 in local time with its offset, to the millisecond."""
    return _local(instant_ms).isoformat(sep=" ", timespec="milliseconds")


def format_date(instant_ms: int) -> str:
    """Return the local date as `2026-01-31`."""
    return _local(instant_ms).date().isoformat()


def format_clock(instant_ms: int) -> str:
    """Return the local time of day as `12:00:00.000`."""
    return _local(instant_ms).time().isoformat(timespec="milliseconds")


def format_relative(instant_ms: int, now_ms: int) -> str:
    """Return how far off the instant is: `in 5m`, `now`, `2h ago`; whole seconds."""
    seconds = (abs(instant_ms - now_ms) + 500) // 1_000
    if seconds == 0:
        return "now"
    distance = format_duration_ms(seconds * 1_000)
    return f"in {distance}" if instant_ms > now_ms else f"{distance} ago"
