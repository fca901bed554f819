"""What a client asks for (`TaskSpec`) and what the store knows of it (`Task`).

All instants are milliseconds since the Unix epoch on the store's clock, all waits are milliseconds;
their names end in `_ms`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.timeline import Reason


class HttpMethod(StrEnum):
    """The request methods a task can use."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    GET = "GET"
    HEAD = "HEAD"


#: Methods whose request has no body (a body on them is refused, not dropped).
BODILESS_METHODS = frozenset({HttpMethod.GET, HttpMethod.HEAD, HttpMethod.DELETE})


class Growth(StrEnum):
    """How the wait grows from one retry or repetition to the next; see `backoff.delay_ms`."""

    CONSTANT = "CONSTANT"
    LINEAR = "LINEAR"
    EXPONENTIAL = "EXPONENTIAL"


DEFAULT_INTERVAL_MS = 1_000
DEFAULT_ATTEMPT_TIMEOUT_MS = 300_000
DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class Backoff:
    """A sequence of waits. `max_interval_ms` None: see `backoff.cap_ms`."""

    interval_ms: int = DEFAULT_INTERVAL_MS
    growth: Growth = Growth.CONSTANT
    max_interval_ms: int | None = None
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What to do after an error answer.

    `retry_at_ms` set: exactly one retry, at that instant. `max_duration_ms` None: no limit.
    `retryable_status_codes` empty: every error answer is retried; failures without an answer
    always are.
    """

    max_retries: int = 0
    backoff: Backoff = Backoff()
    retry_at_ms: int | None = None
    max_duration_ms: int | None = None
    retryable_status_codes: tuple[int, ...] = ()

    @property
    def budget(self) -> int:
        """How many retries one run may use."""
        return 1 if self.retry_at_ms is not None else self.max_retries


@dataclass(frozen=True, slots=True)
class RepeatPolicy:
    """What to do after a success answer. `repeat_at_ms` set: exactly one repetition, at that instant."""

    max_repeats: int = 0
    backoff: Backoff = Backoff()
    repeat_at_ms: int | None = None

    @property
    def budget(self) -> int:
        """How many repetitions the task may make."""
        return 1 if self.repeat_at_ms is not None else self.max_repeats


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the first attempt is due: at `at_ms`, else `delay_ms` after Subscribe.

    `start_deadline_ms` is a wait after the due time; None: the task runs however late.
    """

    at_ms: int | None = None
    delay_ms: int | None = None
    start_deadline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """The request to send. `url` is absolute http(s); `query_params` are added to its own query."""

    url: str = field(repr=False)
    method: HttpMethod = HttpMethod.POST
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    follow_redirects: bool = False


#: Stands for a request that is kept and cannot be read; no request is like it.
UNREADABLE_TARGET = HttpTarget("")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """All of a task that its owner chose; it never changes after Subscribe."""

    task_id: str
    target: HttpTarget
    queue: str = DEFAULT_QUEUE
    schedule: Schedule = Schedule()
    retry: RetryPolicy = RetryPolicy()
    repeat: RepeatPolicy = RepeatPolicy()
    attempt_timeout_ms: int = DEFAULT_ATTEMPT_TIMEOUT_MS
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The latest attempt that ended. `status_code` None: no answer came, `reason` says why."""

    attempt: int
    dispatch_time_ms: int
    latency_ms: int
    status_code: int | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the store knows it.

    `schedule_time_ms` is the next due instant (None while paused and after the end), `retry_count`
    counts the retries scheduled in this run, `attempt_count` all attempts of all runs (a re-delivery
    after a lost lease is not a new attempt). `sequence` is that of the latest timeline event.
    """

    project_id: str
    spec: TaskSpec
    state: TaskState
    create_time_ms: int
    schedule_time_ms: int | None = None
    end_time_ms: int | None = None
    attempt_count: int = 0
    retry_count: int = 0
    repeat_count: int = 0
    last_attempt: Attempt | None = None
    sequence: int = 1
