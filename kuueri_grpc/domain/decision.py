"""What follows an attempt: the one place where retry and repeat policies are applied."""

from dataclasses import dataclass

from kuueri_grpc.domain import backoff
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import RepeatPolicy, RetryPolicy
from kuueri_grpc.domain.timeline import Reason


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task has come when its attempt ends.

    `retry_count` and `repeat_count` are those of the attempt that ended; `run_start_ms` is when the
    first attempt of this run started.
    """

    retry_count: int
    repeat_count: int
    run_start_ms: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The transition to make, and for RETRY and REPEAT when.

    Exactly one of `delay_ms` (from when the store applies it) and `at_ms` is set for RETRY and REPEAT,
    none for COMPLETE and FAIL. `reason` says why a task FAILs.
    """

    trigger: Trigger
    delay_ms: int | None = None
    at_ms: int | None = None
    reason: Reason | None = None


def decide(
    retry: RetryPolicy,
    repeat: RepeatPolicy,
    progress: Progress,
    outcome: Outcome,
    *,
    now_ms: int,
    draw: float,
) -> Decision:
    """Return what follows an attempt that came to `outcome` at `now_ms`.

    `draw` is a random number in [0, 1) for the jitter. Retries belong to a run: every repetition
    starts with the full retry budget.
    """
    if outcome.succeeded:
        return _after_success(repeat, progress, draw)
    return _after_error(retry, progress, outcome, now_ms, draw)


def _after_success(repeat: RepeatPolicy, progress: Progress, draw: float) -> Decision:
    if progress.repeat_count >= repeat.budget:
        return Decision(Trigger.COMPLETE)
    if repeat.repeat_at_ms is not None:
        return Decision(Trigger.REPEAT, at_ms=repeat.repeat_at_ms)
    wait = backoff.delay_ms(repeat.backoff, progress.repeat_count + 1, draw)
    return Decision(Trigger.REPEAT, delay_ms=wait)


def _after_error(
    retry: RetryPolicy, progress: Progress, outcome: Outcome, now_ms: int, draw: float
) -> Decision:
    if not _retryable(retry, outcome):
        return Decision(Trigger.FAIL, reason=Reason.NOT_RETRYABLE)
    if progress.retry_count >= retry.budget:
        return Decision(Trigger.FAIL, reason=Reason.RETRIES_EXHAUSTED)
    if retry.retry_at_ms is not None:
        chosen = Decision(Trigger.RETRY, at_ms=retry.retry_at_ms)
        starts_at = max(now_ms, retry.retry_at_ms)  # an instant that has passed means at once
    else:
        wait = backoff.delay_ms(retry.backoff, progress.retry_count + 1, draw)
        if outcome.retry_after_ms is not None:
            # The target asks for patience: never sooner than it says, within the policy's bound.
            wait = max(wait, min(outcome.retry_after_ms, backoff.retry_after_cap_ms(retry.backoff)))
        chosen = Decision(Trigger.RETRY, delay_ms=wait)
        starts_at = now_ms + wait
    if retry.max_duration_ms is not None and starts_at > progress.run_start_ms + retry.max_duration_ms:
        return Decision(Trigger.FAIL, reason=Reason.RETRY_WINDOW_OVER)
    return chosen


def _retryable(retry: RetryPolicy, outcome: Outcome) -> bool:
    if outcome.reason is not Reason.HTTP_STATUS or not retry.retryable_status_codes:
        return True
    return outcome.status_code in retry.retryable_status_codes
