"""What two calls with the same request id have in common: the content of a task, without its id.

A default that is written out and one that is left unset are the same content, and so is the same map in
another order. A task that would be carried out otherwise is another content.
"""

from collections.abc import Mapping

from kuueri_grpc.domain.backoff import cap_ms, retry_after_cap_ms
from kuueri_grpc.domain.task import Backoff, HttpTarget, RepeatPolicy, RetryPolicy, Schedule, TaskSpec

#: Headers that are sent with these values where a task does not set them.
DEFAULT_HEADERS: Mapping[str, str] = {"accept": "application/json", "content-type": "application/json"}

#: Strings, numbers, bytes, None, and tuples of these.
Content = tuple[object, ...]


def content_of(spec: TaskSpec) -> Content:
    """Return the content of a task, to be compared or digested."""
    return (
        spec.queue,
        _target(spec.target),
        _schedule(spec.schedule),
        _retry(spec.retry),
        _repeat(spec.repeat),
        spec.attempt_timeout_ms,
        _pairs(spec.labels),
    )


def _target(target: HttpTarget) -> Content:
    headers = {
        name: value for name, value in target.headers.items() if DEFAULT_HEADERS.get(name.lower()) != value
    }
    return (
        target.url,
        target.method.value,
        _pairs(headers),
        _pairs(target.query_params),
        target.body,
        target.follow_redirects,
    )


def _schedule(schedule: Schedule) -> Content:
    return (schedule.at_ms, schedule.delay_ms or None, schedule.start_deadline_ms)


def _retry(retry: RetryPolicy) -> Content:
    return (
        retry.budget,
        # What Retry-After may ask for differs between an unset and a long `max_interval`.
        (*_backoff(retry.backoff), retry_after_cap_ms(retry.backoff)),
        retry.retry_at_ms,
        retry.max_duration_ms or None,
        tuple(sorted(retry.retryable_status_codes)),
    )


def _repeat(repeat: RepeatPolicy) -> Content:
    return (repeat.budget, _backoff(repeat.backoff), repeat.repeat_at_ms)


def _backoff(backoff: Backoff) -> Content:
    # An integer of the same value, or a negative zero, is the same jitter.
    return (backoff.interval_ms, backoff.growth.value, cap_ms(backoff), float(backoff.jitter) + 0.0)


def _pairs(texts: Mapping[str, str]) -> Content:
    return tuple(sorted(texts.items())) if texts else ()
