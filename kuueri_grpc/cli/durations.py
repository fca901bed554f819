"""Durations as people write them: `500ms`, `10s`, `1.5m`, `1h30m`, `3d`; a plain number is seconds.

The libraries for this count in floats and take far more spellings than a command line should; here a
value is a whole number of milliseconds or it is refused.
"""

import re
from decimal import Decimal

_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_UNITS = list(_UNIT_MS)
#: 10,000 years, the longest `google.protobuf.Duration`.
_LONGEST_MS = 315_576_000_000_000
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])")


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds that `text` stands for, 0 or more.

    Raises:
        ValueError: not a duration, a finer one than a millisecond, or one over 10,000 years.
    """
    duration = text.strip()
    if _NUMBER.fullmatch(duration):
        duration += "s"
    parts = _PART.findall(duration)
    ranks = [_UNITS.index(unit) for _, unit in parts]
    if not parts or "".join(map("".join, parts)) != duration or ranks != sorted(set(ranks)):
        raise ValueError(f"{text!r} is not a duration; expected one like 500ms, 10s, 1.5m, 1h30m or 3d")
    total_ms = sum(Decimal(number) * _UNIT_MS[unit] for number, unit in parts)
    if total_ms != int(total_ms):
        raise ValueError(f"{text!r} is finer than a millisecond")
    if total_ms > _LONGEST_MS:
        raise ValueError(f"{text!r} is longer than 10,000 years")
    return int(total_ms)


def format_duration_ms(duration_ms: int) -> str:
    """Return a duration for people: to the millisecond below a minute, else in its two largest units.

    What is cut off is cut, not rounded: `parse_duration_ms` reads the result, and it is never longer.
    """
    if duration_ms < 0:
        return f"-{format_duration_ms(-duration_ms)}"
    if duration_ms < 1_000:
        return f"{duration_ms}ms"
    if duration_ms < 60_000:
        seconds, rest = divmod(duration_ms, 1_000)
        return f"{seconds}.{rest:03}".rstrip("0").rstrip(".") + "s"
    largest = next(rank for rank, unit in enumerate(_UNITS) if duration_ms >= _UNIT_MS[unit])
    text = ""
    for unit in _UNITS[largest : largest + 2]:
        count, duration_ms = divmod(duration_ms, _UNIT_MS[unit])
        text += f"{count}{unit}" if count else ""
    return text
