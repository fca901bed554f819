"""The events on a task's timeline, and the sentence that each one reads as."""

import zlib
from dataclasses import dataclass
from enum import StrEnum


class EventType(StrEnum):
    """What happened. The values are what the store keeps."""

    SUBSCRIBED = "SUBSCRIBED"
    DISPATCHED = "DISPATCHED"
    SUCCEEDED = "SUCCEEDED"
    ERRORED = "ERRORED"
    RETRY_SCHEDULED = "RETRY_SCHEDULED"
    REPEAT_SCHEDULED = "REPEAT_SCHEDULED"
    PAUSED = "PAUSED"
    RESUMED = "RESUMED"
    RECOVERED = "RECOVERED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"


#: Each is the last event of its task.
TERMINAL_EVENTS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELED, EventType.EXPIRED})


class Reason(StrEnum):
    """Why it happened. The values are what the store keeps."""

    HTTP_STATUS = "HTTP_STATUS"
    TIMEOUT = "TIMEOUT"
    CONNECTION_REFUSED = "CONNECTION_REFUSED"
    CONNECTION_FAILED = "CONNECTION_FAILED"
    CONNECTION_LOST = "CONNECTION_LOST"
    DNS = "DNS"
    TLS = "TLS"
    BLOCKED_ADDRESS = "BLOCKED_ADDRESS"
    TOO_MANY_REDIRECTS = "TOO_MANY_REDIRECTS"
    INVALID_RESPONSE = "INVALID_RESPONSE"
    INTERNAL = "INTERNAL"
    LEASE_LOST = "LEASE_LOST"
    START_DEADLINE = "START_DEADLINE"
    RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"
    RETRY_WINDOW_OVER = "RETRY_WINDOW_OVER"
    NOT_RETRYABLE = "NOT_RETRYABLE"
    POISON = "POISON"
    RUN_NOW = "RUN_NOW"
    BY_REQUEST = "BY_REQUEST"
    HANDED_BACK = "HANDED_BACK"
    UNREADABLE = "UNREADABLE"


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One entry of a timeline; `sequence` counts 1, 2, 3 ... per task without gaps.

    `detail` is a short text about an attempt (an error class, that it was sent twice); it never holds a body,
    a header or a secret.
    """

    task_id: str
    sequence: int
    create_time_ms: int
    type: EventType
    attempt: int = 0
    status_code: int | None = None
    latency_ms: int | None = None
    reason: Reason | None = None
    next_time_ms: int | None = None
    detail: str = ""

    @property
    def mark(self) -> int:
        """A number, never 0, by which to tell it from another event that took its place.

        That happens where a store comes back with older data: numbers are given out a second time.
        """
        text = f"{self.task_id}/{self.sequence}/{self.create_time_ms}/{self.type}"
        return zlib.crc32(text.encode()) or 1


@dataclass(frozen=True, slots=True)
class TimelineGap:
    """Events of a timeline that are not kept any more, from the first to the last of them."""

    first_sequence: int
    last_sequence: int


_FAILURES = {
    Reason.TIMEOUT: "no complete answer within the attempt timeout",
    Reason.CONNECTION_REFUSED: "the target refused the connection",
    Reason.CONNECTION_FAILED: "no connection to the target",
    Reason.CONNECTION_LOST: "the connection closed before a complete answer",
    Reason.DNS: "the target's name did not resolve",
    Reason.TLS: "TLS to the target failed",
    Reason.BLOCKED_ADDRESS: "the target's address is not allowed",
    Reason.TOO_MANY_REDIRECTS: "too many redirects",
    Reason.INVALID_RESPONSE: "the answer was not valid HTTP",
    Reason.INTERNAL: "the request could not be sent",
    Reason.UNREADABLE: "what the store keeps of the task cannot be read",
}

_ENDINGS = {
    Reason.RETRIES_EXHAUSTED: "no retry is left",
    Reason.RETRY_WINDOW_OVER: "the next retry would start after the retry policy's max_duration",
    Reason.NOT_RETRYABLE: "the retry policy does not retry this status code",
    Reason.POISON: "the worker running it was lost too often",
    Reason.UNREADABLE: "what the store keeps of it cannot be read",
}

_PLAIN = {
    EventType.SUBSCRIBED: "Task accepted",
    EventType.RETRY_SCHEDULED: "Retry scheduled",
    EventType.REPEAT_SCHEDULED: "Repetition scheduled",
    EventType.PAUSED: "Paused; the remaining delay is kept",
    EventType.RESUMED: "Resumed",
    EventType.RECOVERED: "The worker running this attempt was lost; the same attempt runs again",
    EventType.COMPLETED: "Task completed",
    EventType.CANCELED: "Canceled by request",
    EventType.EXPIRED: "Not started before its start deadline",
}

#: Where the reason changes the sentence.
_BY_REASON: dict[tuple[EventType, Reason | None], str] = {
    (EventType.RESUMED, Reason.RUN_NOW): "Resumed to run now, as asked by RunTask",
    (EventType.RECOVERED, Reason.HANDED_BACK): (
        "The worker running this attempt was stopped; the same attempt runs again"
    ),
}


def describe(event: TimelineEvent) -> str:
    """Return the event as one English sentence without a full stop.

    Made when read, not when written: the store keeps the facts, this is their only wording.
    """
    match event.type:
        case EventType.DISPATCHED:
            early = " early, as asked by RunTask" if event.reason is Reason.RUN_NOW else ""
            return f"Attempt {event.attempt} started{early}"
        case EventType.SUCCEEDED:
            return f"Attempt {event.attempt} succeeded with status {event.status_code}{_in_brackets(event)}"
        case EventType.ERRORED:
            return f"Attempt {event.attempt} failed: {_failure(event)}"
        case EventType.FAILED:
            ending = _ENDINGS.get(event.reason) if event.reason else None
            return f"Task failed: {ending}" if ending else "Task failed"
        case _:
            return _BY_REASON.get((event.type, event.reason), _PLAIN[event.type])


def _failure(event: TimelineEvent) -> str:
    if event.reason is Reason.HTTP_STATUS or event.reason is None:
        return f"the target answered with status {event.status_code}{_in_brackets(event)}"
    return _FAILURES.get(event.reason, event.reason) + _in_brackets(event)


def _in_brackets(event: TimelineEvent) -> str:
    return f" ({event.detail})" if event.detail else ""
