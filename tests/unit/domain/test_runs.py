"""Whole tasks: any policy against any sequence of outcomes, from the first attempt to the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise

from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain.decision import Decision, Progress, decide
from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.state import TERMINAL_STATES, TaskState, Trigger, next_state
from kuueri_grpc.domain.task import RepeatPolicy, RetryPolicy
from tests.unit.domain.strategies import (
    NOW_MS,
    draws,
    outcomes,
    repeat_budget,
    repeat_policies,
    retry_budget,
    retry_policies,
)

#: Beyond every budget of the strategies: a task that gets here does not end.
ENDLESS = 1_000


@dataclass(frozen=True)
class Step:
    """One attempt: when it started, what it came to and what followed."""

    start_ms: int
    progress: Progress
    outcome: Outcome
    decision: Decision
    state: TaskState


def execute(
    retry: RetryPolicy, repeat: RepeatPolicy, answers: Sequence[Outcome], draw: float = 0.0
) -> list[Step]:
    """Return every step of a task whose attempts come to `answers`, over and over."""
    state = TaskState.SCHEDULED
    now = NOW_MS
    progress = Progress(retry_count=0, repeat_count=0, run_start_ms=now)
    steps: list[Step] = []
    for outcome in cycle(answers):
        state = next_state(state, Trigger.CLAIM)
        start, now = now, now + outcome.latency_ms
        decision = decide(retry, repeat, progress, outcome, now_ms=now, draw=draw)
        state = next_state(state, decision.trigger)
        steps.append(Step(start, progress, outcome, decision, state))
        if state in TERMINAL_STATES or len(steps) == ENDLESS:
            break
        now = max(now, decision.at_ms) if decision.at_ms is not None else now + (decision.delay_ms or 0)
        if state is TaskState.RETRYING:
            progress = replace(progress, retry_count=progress.retry_count + 1)
        else:
            progress = Progress(0, progress.repeat_count + 1, run_start_ms=now)
    return steps


any_answers = st.lists(outcomes, min_size=1, max_size=8)


@given(retry_policies, repeat_policies, any_answers, draws)
def test_every_task_ends_within_its_budgets(
    retry: RetryPolicy, repeat: RepeatPolicy, answers: list[Outcome], draw: float
) -> None:
    steps = execute(retry, repeat, answers, draw)
    assert len(steps) <= (repeat_budget(repeat) + 1) * (retry_budget(retry) + 1)
    assert steps[-1].state in {TaskState.COMPLETED, TaskState.FAILED}


@given(retry_policies, repeat_policies, any_answers, draws)
def test_a_task_completes_exactly_when_its_last_attempt_succeeded(
    retry: RetryPolicy, repeat: RepeatPolicy, answers: list[Outcome], draw: float
) -> None:
    last = execute(retry, repeat, answers, draw)[-1]
    assert (last.state is TaskState.COMPLETED) == last.outcome.succeeded


@given(retry_policies, repeat_policies, any_answers, draws)
def test_a_completed_task_has_repeated_as_often_as_asked(
    retry: RetryPolicy, repeat: RepeatPolicy, answers: list[Outcome], draw: float
) -> None:
    steps = execute(retry, repeat, answers, draw)
    successes = sum(step.outcome.succeeded for step in steps)
    if steps[-1].state is TaskState.COMPLETED:
        assert successes == repeat_budget(repeat) + 1
    else:
        assert successes <= repeat_budget(repeat)


@given(retry_policies, repeat_policies, any_answers, draws)
def test_no_run_has_more_retries_than_its_budget_nor_starts_one_after_its_window(
    retry: RetryPolicy, repeat: RepeatPolicy, answers: list[Outcome], draw: float
) -> None:
    for step in execute(retry, repeat, answers, draw):
        assert step.progress.retry_count <= retry_budget(retry)
        if step.progress.retry_count and retry.max_duration_ms is not None:
            assert step.start_ms <= step.progress.run_start_ms + retry.max_duration_ms


@given(retry_policies, repeat_policies, any_answers, draws)
def test_attempts_never_overlap(
    retry: RetryPolicy, repeat: RepeatPolicy, answers: list[Outcome], draw: float
) -> None:
    steps = execute(retry, repeat, answers, draw)
    for step, later in pairwise(steps):
        assert step.start_ms + step.outcome.latency_ms <= later.start_ms


@given(retry_policies, repeat_policies)
def test_the_budgets_are_used_to_the_full(retry: RetryPolicy, repeat: RepeatPolicy) -> None:
    retry = replace(retry, max_duration_ms=None, retryable_status_codes=())
    error, ok = answered(503, 0), answered(200, 0)
    retries, repeats = retry_budget(retry), repeat_budget(repeat)

    assert len(execute(retry, repeat, [error])) == retries + 1
    assert len(execute(retry, repeat, [ok])) == repeats + 1
    # Each run succeeds at its very last retry.
    slow = execute(retry, repeat, [error] * retries + [ok])
    assert len(slow) == (repeats + 1) * (retries + 1)
    assert slow[-1].state is TaskState.COMPLETED
