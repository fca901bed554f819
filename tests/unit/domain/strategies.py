"""Any policy, outcome and draw that the domain must cope with."""

from hypothesis import strategies as st

from kuueri_grpc.domain.backoff import LONGEST_WAIT_MS
from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.task import Backoff, Growth, RepeatPolicy, RetryPolicy
from kuueri_grpc.domain.timeline import Reason

#: What an attempt can fail of without a complete answer.
FAILURES = (
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

NOW_MS = 1_800_000_000_000

waits_ms = st.integers(min_value=1, max_value=LONGEST_WAIT_MS)
#: As the standard library's random.random() gives them.
draws = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)
instants_ms = st.integers(min_value=NOW_MS - LONGEST_WAIT_MS, max_value=NOW_MS + LONGEST_WAIT_MS)

backoffs = st.builds(
    Backoff,
    interval_ms=waits_ms,
    growth=st.sampled_from(Growth),
    max_interval_ms=st.none() | waits_ms,
    jitter=st.floats(min_value=0.0, max_value=1.0),
)

#: Few and short, so that every rule is met within a few attempts.
_budgets = st.integers(min_value=0, max_value=4)
_statuses = (301, 404, 429, 500, 503)

retry_policies = st.builds(
    RetryPolicy,
    max_retries=_budgets,
    backoff=backoffs,
    retry_at_ms=st.none() | instants_ms,
    max_duration_ms=st.none() | waits_ms,
    retryable_status_codes=st.lists(st.sampled_from(_statuses), unique=True).map(tuple),
)
repeat_policies = st.builds(
    RepeatPolicy, max_repeats=_budgets, backoff=backoffs, repeat_at_ms=st.none() | instants_ms
)

_latencies_ms = st.integers(min_value=0, max_value=1_800_000)

successes = st.builds(answered, st.integers(min_value=200, max_value=299), _latencies_ms)
error_answers = st.builds(
    answered, st.sampled_from(_statuses), _latencies_ms, retry_after_ms=st.none() | waits_ms
)
failures_without_answer = st.builds(Outcome, _latencies_ms, reason=st.sampled_from(FAILURES))
errors = error_answers | failures_without_answer
outcomes = successes | errors


def retry_budget(policy: RetryPolicy) -> int:
    """Return how many retries a run may have."""
    return policy.max_retries if policy.retry_at_ms is None else 1


def repeat_budget(policy: RepeatPolicy) -> int:
    """Return how many repetitions a task may have."""
    return policy.max_repeats if policy.repeat_at_ms is None else 1
