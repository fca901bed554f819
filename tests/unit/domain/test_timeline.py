"""The sentence that each event reads as."""

import pytest

from kuueri_grpc.domain.state import TERMINAL_STATES
from kuueri_grpc.domain.timeline import TERMINAL_EVENTS, EventType, Reason, TimelineEvent, describe
from tests.unit.domain.strategies import FAILURES

ENDINGS = (
    Reason.RETRIES_EXHAUSTED,
    Reason.RETRY_WINDOW_OVER,
    Reason.NOT_RETRYABLE,
    Reason.POISON,
    Reason.UNREADABLE,
)


def an_event(kind: EventType, **facts: object) -> TimelineEvent:
    return TimelineEvent("report-7", 3, 1_800_000_000_000, kind, **facts)  # type: ignore[arg-type]


#: Every event that can be on a timeline, with the facts that it carries there.
EVENTS = [
    an_event(EventType.SUBSCRIBED, next_time_ms=1_800_000_005_000),
    an_event(EventType.DISPATCHED, attempt=2),
    an_event(EventType.DISPATCHED, attempt=2, reason=Reason.RUN_NOW),
    an_event(EventType.SUCCEEDED, attempt=2, status_code=204, latency_ms=12),
    an_event(EventType.ERRORED, attempt=2, status_code=503, latency_ms=12, reason=Reason.HTTP_STATUS),
    *(an_event(EventType.ERRORED, attempt=2, latency_ms=12, reason=reason) for reason in FAILURES),
    an_event(EventType.ERRORED, attempt=2, latency_ms=0, reason=Reason.UNREADABLE),
    an_event(EventType.RETRY_SCHEDULED, attempt=2, next_time_ms=1_800_000_005_000),
    an_event(EventType.REPEAT_SCHEDULED, attempt=2, next_time_ms=1_800_000_005_000),
    an_event(EventType.PAUSED, reason=Reason.BY_REQUEST),
    an_event(EventType.RESUMED, reason=Reason.BY_REQUEST, next_time_ms=1_800_000_005_000),
    an_event(EventType.RESUMED, reason=Reason.RUN_NOW, next_time_ms=1_800_000_005_000),
    an_event(EventType.RECOVERED, attempt=2, reason=Reason.LEASE_LOST),
    an_event(EventType.RECOVERED, attempt=2, reason=Reason.HANDED_BACK),
    an_event(EventType.COMPLETED, attempt=2),
    *(an_event(EventType.FAILED, attempt=2, reason=reason) for reason in ENDINGS),
    an_event(EventType.CANCELED, reason=Reason.BY_REQUEST),
    an_event(EventType.EXPIRED, reason=Reason.START_DEADLINE),
]


def test_the_list_above_leaves_out_no_type_and_no_reason() -> None:
    assert {event.type for event in EVENTS} == set(EventType)
    assert {event.reason for event in EVENTS} == {None, *Reason}


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.reason}")
def test_every_event_reads_as_one_sentence(event: TimelineEvent) -> None:
    sentence = describe(event)
    assert sentence[0].isupper()
    assert not sentence.endswith(".")
    assert "\n" not in sentence
    # Facts in words: a missing one or the bare name of a constant would show.
    assert "None" not in sentence
    assert not [name for name in (*Reason, *EventType) if "_" in name and name in sentence]


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failed_attempt_says_why_in_words(reason: Reason) -> None:
    sentence = describe(an_event(EventType.ERRORED, attempt=2, reason=reason))
    assert sentence.startswith("Attempt 2 failed: ")
    assert not sentence.endswith(reason)


@pytest.mark.parametrize("reason", ENDINGS)
def test_a_failed_task_says_why(reason: Reason) -> None:
    assert describe(an_event(EventType.FAILED, reason=reason)).startswith("Task failed: ")


def test_no_two_events_read_the_same() -> None:
    sentences = [describe(event) for event in EVENTS]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (an_event(EventType.DISPATCHED, attempt=3), "Attempt 3 started"),
        (
            an_event(EventType.DISPATCHED, attempt=3, reason=Reason.RUN_NOW),
            "Attempt 3 started early, as asked by RunTask",
        ),
        (an_event(EventType.SUCCEEDED, attempt=3, status_code=204), "Attempt 3 succeeded with status 204"),
        (
            an_event(EventType.ERRORED, attempt=3, status_code=404, reason=Reason.HTTP_STATUS),
            "Attempt 3 failed: the target answered with status 404",
        ),
        (
            an_event(EventType.ERRORED, attempt=3, reason=Reason.DNS, detail="no such host: example.invalid"),
            "Attempt 3 failed: the target's name did not resolve (no such host: example.invalid)",
        ),
        (an_event(EventType.FAILED, reason=Reason.RETRIES_EXHAUSTED), "Task failed: no retry is left"),
        (an_event(EventType.FAILED), "Task failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sentences(event: TimelineEvent, sentence: str) -> None:
    assert describe(event) == sentence


def test_a_task_ends_on_the_event_that_is_named_as_its_state() -> None:
    assert {str(kind) for kind in TERMINAL_EVENTS} == {str(state) for state in TERMINAL_STATES}
