"""What follows an attempt, one decision at a time; whole tasks are in test_runs.py."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain import backoff
from kuueri_grpc.domain.backoff import HOUR_MS, LONGEST_WAIT_MS
from kuueri_grpc.domain.decision import Decision, Progress, decide
from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Backoff, Growth, RepeatPolicy, RetryPolicy
from kuueri_grpc.domain.timeline import Reason
from tests.unit.domain.strategies import (
    FAILURES,
    NOW_MS,
    backoffs,
    draws,
    error_answers,
    errors,
    outcomes,
    repeat_budget,
    repeat_policies,
    retry_budget,
    retry_policies,
    successes,
    waits_ms,
)

OK = answered(200, latency_ms=10)
ERROR = answered(503, latency_ms=10)
NO_RETRY = RetryPolicy()
NO_REPEAT = RepeatPolicy()
START = Progress(retry_count=0, repeat_count=0, run_start_ms=NOW_MS - 1_000)

progresses = st.builds(
    Progress,
    retry_count=st.integers(0, 6),
    repeat_count=st.integers(0, 6),
    run_start_ms=st.integers(NOW_MS - LONGEST_WAIT_MS, NOW_MS),
)


def after(
    outcome: Outcome,
    retry: RetryPolicy = NO_RETRY,
    repeat: RepeatPolicy = NO_REPEAT,
    progress: Progress = START,
    draw: float = 0.0,
) -> Decision:
    return decide(retry, repeat, progress, outcome, now_ms=NOW_MS, draw=draw)


def start_ms(decision: Decision) -> int:
    """Return when the attempt that was decided on can start at the earliest."""
    if decision.at_ms is not None:
        return max(NOW_MS, decision.at_ms)
    assert decision.delay_ms is not None
    return NOW_MS + decision.delay_ms


# --- Without policies -------------------------------------------------------------------------


def test_a_success_completes_the_task() -> None:
    assert after(OK) == Decision(Trigger.COMPLETE)


def test_an_error_fails_the_task() -> None:
    assert after(ERROR) == Decision(Trigger.FAIL, reason=Reason.RETRIES_EXHAUSTED)


# --- Retries ----------------------------------------------------------------------------------


def test_retries_wait_as_the_backoff_says() -> None:
    policy = RetryPolicy(max_retries=3, backoff=Backoff(1_000, Growth.LINEAR))
    decisions = [after(ERROR, policy, progress=replace(START, retry_count=n)) for n in range(4)]
    assert decisions == [
        Decision(Trigger.RETRY, delay_ms=1_000),
        Decision(Trigger.RETRY, delay_ms=2_000),
        Decision(Trigger.RETRY, delay_ms=3_000),
        Decision(Trigger.FAIL, reason=Reason.RETRIES_EXHAUSTED),
    ]


def test_repetitions_before_do_not_use_up_retries() -> None:
    policy = RetryPolicy(max_retries=1)
    assert after(ERROR, policy, progress=replace(START, repeat_count=9)).trigger is Trigger.RETRY


def test_retry_at_gives_one_retry_at_that_instant() -> None:
    policy = RetryPolicy(retry_at_ms=NOW_MS + 60_000)
    assert after(ERROR, policy) == Decision(Trigger.RETRY, at_ms=NOW_MS + 60_000)
    assert after(ERROR, policy, progress=replace(START, retry_count=1)) == Decision(
        Trigger.FAIL, reason=Reason.RETRIES_EXHAUSTED
    )


def test_retry_after_does_not_move_retry_at() -> None:
    policy = RetryPolicy(retry_at_ms=NOW_MS + 1_000)
    assert after(answered(429, 10, retry_after_ms=60_000), policy).at_ms == NOW_MS + 1_000


@pytest.mark.parametrize(
    ("policy", "asked_ms", "wait_ms"),
    [
        (Backoff(10_000), 3_000, 10_000),
        (Backoff(10_000), 45_000, 45_000),
        (Backoff(10_000, max_interval_ms=30_000), 45_000, 30_000),
        (Backoff(10_000), 24 * HOUR_MS, HOUR_MS),
        (Backoff(2 * HOUR_MS), 24 * HOUR_MS, 2 * HOUR_MS),
        (Backoff(10_000), 0, 10_000),
    ],
)
def test_retry_after_lengthens_the_wait_within_the_bound(
    policy: Backoff, asked_ms: int, wait_ms: int
) -> None:
    outcome = answered(429, 10, retry_after_ms=asked_ms)
    assert after(outcome, RetryPolicy(max_retries=1, backoff=policy)).delay_ms == wait_ms


def test_jitter_does_not_shorten_what_the_target_asks_for() -> None:
    policy = RetryPolicy(max_retries=1, backoff=Backoff(20_000, jitter=1.0))
    outcome = answered(429, 10, retry_after_ms=15_000)
    assert after(outcome, policy, draw=0.1).delay_ms == 18_000
    assert after(outcome, policy, draw=0.9).delay_ms == 15_000


@pytest.mark.parametrize(("wait_ms", "trigger"), [(4_000, Trigger.RETRY), (4_001, Trigger.FAIL)])
def test_no_retry_starts_after_the_window(wait_ms: int, trigger: Trigger) -> None:
    # The run started 1 s ago, so 4 s of 5 are left.
    window = RetryPolicy(max_retries=1, max_duration_ms=5_000)
    by_wait = after(ERROR, replace(window, backoff=Backoff(wait_ms)))
    by_instant = after(ERROR, replace(window, retry_at_ms=NOW_MS + wait_ms))
    by_target = after(answered(503, 10, retry_after_ms=wait_ms), window)
    assert [d.trigger for d in (by_wait, by_instant, by_target)] == [trigger] * 3
    if trigger is Trigger.FAIL:
        assert {d.reason for d in (by_wait, by_instant, by_target)} == {Reason.RETRY_WINDOW_OVER}


def test_an_instant_that_has_passed_does_not_outwit_the_window() -> None:
    # The attempt took 10 s of a window of 5 s; the retry would start now, not when it was meant to.
    policy = RetryPolicy(retry_at_ms=NOW_MS - 9_000, max_duration_ms=5_000)
    progress = replace(START, run_start_ms=NOW_MS - 10_000)
    assert after(ERROR, policy, progress=progress) == Decision(Trigger.FAIL, reason=Reason.RETRY_WINDOW_OVER)


@pytest.mark.parametrize("status", [404, 500])
def test_only_listed_statuses_are_retried(status: int) -> None:
    policy = RetryPolicy(max_retries=1, retryable_status_codes=(429, 503))
    assert after(ERROR, policy).trigger is Trigger.RETRY
    assert after(answered(status, 10), policy) == Decision(Trigger.FAIL, reason=Reason.NOT_RETRYABLE)


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failure_without_a_whole_answer_is_always_retryable(reason: Reason) -> None:
    policy = RetryPolicy(max_retries=1, retryable_status_codes=(503,))
    assert after(Outcome(10, reason=reason), policy).trigger is Trigger.RETRY


# --- Repetitions ------------------------------------------------------------------------------


def test_repetitions_wait_as_the_backoff_says() -> None:
    policy = RepeatPolicy(max_repeats=2, backoff=Backoff(1_000, Growth.EXPONENTIAL))
    decisions = [after(OK, repeat=policy, progress=replace(START, repeat_count=n)) for n in range(3)]
    assert decisions == [
        Decision(Trigger.REPEAT, delay_ms=1_000),
        Decision(Trigger.REPEAT, delay_ms=2_000),
        Decision(Trigger.COMPLETE),
    ]


def test_retries_before_do_not_use_up_repetitions() -> None:
    policy = RepeatPolicy(max_repeats=1)
    assert after(OK, repeat=policy, progress=replace(START, retry_count=9)).trigger is Trigger.REPEAT


def test_repeat_at_gives_one_repetition_at_that_instant() -> None:
    policy = RepeatPolicy(repeat_at_ms=NOW_MS + 60_000)
    assert after(OK, repeat=policy) == Decision(Trigger.REPEAT, at_ms=NOW_MS + 60_000)
    assert after(OK, repeat=policy, progress=replace(START, repeat_count=1)) == Decision(Trigger.COMPLETE)


def test_a_repetition_is_jittered_but_not_moved_by_retry_after() -> None:
    policy = RepeatPolicy(max_repeats=1, backoff=Backoff(10_000, jitter=0.5))
    outcome = answered(202, 10, retry_after_ms=60_000)
    assert after(outcome, repeat=policy, draw=0.5) == Decision(Trigger.REPEAT, delay_ms=7_500)


# --- For any policy ---------------------------------------------------------------------------


@given(retry_policies, repeat_policies, progresses, outcomes, draws)
def test_the_outcome_leaves_two_ways(
    retry: RetryPolicy, repeat: RepeatPolicy, progress: Progress, outcome: Outcome, draw: float
) -> None:
    trigger = after(outcome, retry, repeat, progress, draw).trigger
    if outcome.succeeded:
        assert trigger in {Trigger.COMPLETE, Trigger.REPEAT}
    else:
        assert trigger in {Trigger.FAIL, Trigger.RETRY}


@given(retry_policies, repeat_policies, progresses, outcomes, draws)
def test_a_decision_says_when_or_why_or_neither(
    retry: RetryPolicy, repeat: RepeatPolicy, progress: Progress, outcome: Outcome, draw: float
) -> None:
    decision = after(outcome, retry, repeat, progress, draw)
    given_times = [time for time in (decision.delay_ms, decision.at_ms) if time is not None]
    match decision.trigger:
        case Trigger.RETRY | Trigger.REPEAT:
            assert len(given_times) == 1
            assert decision.reason is None
            assert decision.delay_ms is None or decision.delay_ms >= 1
        case Trigger.FAIL:
            assert not given_times
            assert decision.reason is not None
        case _:
            assert decision == Decision(Trigger.COMPLETE)


@given(retry_policies, progresses, errors, draws)
def test_never_more_retries_than_the_budget(
    retry: RetryPolicy, progress: Progress, outcome: Outcome, draw: float
) -> None:
    if progress.retry_count >= retry_budget(retry):
        assert after(outcome, retry, progress=progress, draw=draw).trigger is Trigger.FAIL


@given(repeat_policies, progresses, successes, draws)
def test_exactly_as_many_repetitions_as_the_budget(
    repeat: RepeatPolicy, progress: Progress, outcome: Outcome, draw: float
) -> None:
    is_left = progress.repeat_count < repeat_budget(repeat)
    expected = Trigger.REPEAT if is_left else Trigger.COMPLETE
    assert after(outcome, repeat=repeat, progress=progress, draw=draw).trigger is expected


@given(backoffs, st.integers(0, 6), error_answers, draws)
def test_no_retry_is_earlier_than_the_target_asks_nor_later_than_the_policy_allows(
    policy: Backoff, retry_count: int, outcome: Outcome, draw: float
) -> None:
    retry = RetryPolicy(max_retries=7, backoff=policy)
    decision = after(outcome, retry, progress=replace(START, retry_count=retry_count), draw=draw)
    asked = min(outcome.retry_after_ms or 0, backoff.retry_after_cap_ms(policy))
    assert decision.delay_ms is not None
    assert asked <= decision.delay_ms <= max(asked, backoff.cap_ms(policy))


@given(retry_policies, waits_ms, progresses, errors, draws)
def test_the_window_refuses_what_starts_after_it_and_nothing_else(
    retry: RetryPolicy, window_ms: int, progress: Progress, outcome: Outcome, draw: float
) -> None:
    unlimited = after(outcome, replace(retry, max_duration_ms=None), progress=progress, draw=draw)
    limited = after(outcome, replace(retry, max_duration_ms=window_ms), progress=progress, draw=draw)
    is_late = unlimited.trigger is Trigger.RETRY and start_ms(unlimited) > progress.run_start_ms + window_ms
    assert limited == (Decision(Trigger.FAIL, reason=Reason.RETRY_WINDOW_OVER) if is_late else unlimited)
