"""How long to wait before the n-th retry or repetition.

Delays in seconds for an interval of 1 s, without jitter:

| n           | 1 | 2 | 3 | 4 | 5  | 6  |
|-------------|---|---|---|---|----|----|
| CONSTANT    | 1 | 1 | 1 | 1 | 1  | 1  |
| LINEAR      | 1 | 2 | 3 | 4 | 5  | 6  |
| EXPONENTIAL | 1 | 2 | 4 | 8 | 16 | 32 |

LINEAR is what the original service calls "exponential".
"""

from kuueri_grpc.domain.task import Backoff, Growth

HOUR_MS = 3_600_000
#: No wait is longer, whatever the policy computes.
LONGEST_WAIT_MS = 365 * 24 * HOUR_MS
#: Past this power of two every interval (>= 1 ms) is beyond LONGEST_WAIT_MS.
_MAX_DOUBLINGS = 40


def cap_ms(backoff: Backoff) -> int:
    """Return the longest wait of `backoff` in milliseconds.

    Without `max_interval_ms` an EXPONENTIAL wait stops growing at one hour (or at the interval
    where that is longer); the other growths are bounded by LONGEST_WAIT_MS only.
    """
    if backoff.max_interval_ms is not None:
        return min(backoff.max_interval_ms, LONGEST_WAIT_MS)
    if backoff.growth is Growth.EXPONENTIAL:
        return min(max(HOUR_MS, backoff.interval_ms), LONGEST_WAIT_MS)
    return LONGEST_WAIT_MS


def retry_after_cap_ms(backoff: Backoff) -> int:
    """Return the longest wait that a target may ask for with Retry-After: `max_interval`, else one hour."""
    return HOUR_MS if backoff.max_interval_ms is None else min(backoff.max_interval_ms, LONGEST_WAIT_MS)


def delay_ms(backoff: Backoff, n: int, draw: float) -> int:
    """Return the wait before the `n`-th (1, 2, ...) retry or repetition, in milliseconds, at least 1.

    `draw` is a random number in [0, 1). With jitter j the wait is multiplied by `1 - j * draw`, so
    jitter only ever shortens it: caps hold, and waits spread out instead of bunching at the cap.

    Raises:
        ValueError: `n` is less than 1.
    """
    if n < 1:
        raise ValueError(f"n counts from 1, got {n}")
    match backoff.growth:
        case Growth.CONSTANT:
            wait = backoff.interval_ms
        case Growth.LINEAR:
            wait = backoff.interval_ms * n
        case Growth.EXPONENTIAL:
            wait = backoff.interval_ms << min(n - 1, _MAX_DOUBLINGS)
    wait = min(wait, cap_ms(backoff))
    return max(1, round(wait * (1.0 - backoff.jitter * draw)))
