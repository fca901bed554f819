"""What the engine needs of the world, as contracts. `store` and `dispatcher` implement them.

The rules are in the docstrings and hold for every implementation; `tests/store` is the conformance
suite for the store's part. Nothing here knows of Redis, HTTP libraries or gRPC.

Errors: every method of a store may raise `StoreUnavailable`; a call that raised it may or may not have
taken effect, and can be repeated.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import HttpTarget, RepeatPolicy, RetryPolicy, Task, TaskSpec
from kuueri_grpc.domain.timeline import TimelineEvent

# --- Clock ------------------------------------------------------------------------------------


class Clock(Protocol):
    """The store's time, known without asking it: its last answer plus monotonic time since."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch on the store's clock. A change of the host's clock moves nothing."""
        ...


# --- Dispatcher -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, ready to be sent. Counts are those of this attempt; limits come from the policies."""

    project_id: str
    task_id: str
    attempt: int
    retry_count: int
    retry_limit: int
    repeat_count: int
    repeat_limit: int
    schedule_time_ms: int
    timeout_ms: int
    target: HttpTarget
    #: Secrets to sign with, newest first ("whsec_" + base64); empty: the request is not signed.
    signing_secrets: tuple[str, ...] = ()


class Dispatcher(Protocol):
    """Sends attempts.

    - `send` never raises for anything the target or the network does: that is an `Outcome`.
    - One deadline, `timeout_ms`, over connect, headers and the whole body.
    - Cancelling the call aborts the attempt: when the cancelled call has ended, the connection is
      closed and nothing more is sent.
    - No address is dialled that the address guard refuses.
    """

    async def send(self, delivery: Delivery) -> Outcome:
        """Send the request and return what it came to."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


# --- Store: tasks -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to subscribe. `fingerprint` identifies its content for a repeated `request_id`."""

    spec: TaskSpec
    request_id: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list: all that match every given condition."""

    state: TaskState | None = None
    queue: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks, newest first; `cursor` continues after them (None: there are no more)."""

    tasks: Sequence[Task]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task after Cancel, and the attempt that was in flight, if one was.

    `token` and `holder` name the aborted attempt's fencing token and the instance that runs it;
    `lease_left_ms` bounds how long that instance may go on without a word from the store.
    """

    task: Task
    token: str | None = None
    holder: str | None = None
    lease_left_ms: int = 0


@dataclass(frozen=True, slots=True)
class TimelineSlice:
    """Events with `sequence` > the one asked for, oldest first, without a gap.

    `task` is the snapshot at `last_sequence`, read in the same instant. `first_sequence` is the oldest
    event that is kept.
    """

    task: Task
    events: Sequence[TimelineEvent]
    first_sequence: int
    last_sequence: int


class TaskStore(Protocol):
    """Tasks of all projects. Every change of a task is atomic over state, indexes, timeline and quota.

    Every command is idempotent towards a lost answer: repeating the call changes nothing and answers
    the same.
    """

    async def subscribe(
        self, project_id: str, tasks: Sequence[NewTask], queue_limit: int
    ) -> list[Task | KuueriError]:
        """Accept tasks; a result per item, in order.

        Items fail alone: `TaskExists`, `RequestIdReused`, `QuotaExceeded`, `ProjectNotFound`. A repeated
        `request_id` with the same fingerprint gives the task of the first call.
        """
        ...

    async def get(self, project_id: str, task_id: str) -> Task:
        """Return the task. Raises `TaskNotFound`."""
        ...

    async def list(
        self, project_id: str, where: TaskFilter, page_size: int, cursor: str | None
    ) -> TaskPage:
        """Return tasks, newest first. Work per call is bounded: a page may be short, or empty, and
        still have a cursor. Raises `CursorInvalid`."""
        ...

    async def cancel(self, project_id: str, task_id: str) -> Cancelled:
        """End the task as CANCELED. A canceled task is returned as it is.

        Raises `TaskNotFound`; `TaskEnded` if it ended otherwise.
        """
        ...

    async def pause(self, project_id: str, task_id: str) -> Task:
        """Keep the remaining delay and stop waiting. While DISPATCHING: hold the task when the attempt
        has ended. Raises `TaskNotFound`, `TaskEnded`."""
        ...

    async def resume(self, project_id: str, task_id: str) -> Task:
        """Wait for the remaining delay again. No-op on a task that is not paused.

        Raises `TaskNotFound`, `TaskEnded`.
        """
        ...

    async def run(self, project_id: str, task_id: str) -> Task:
        """Make a waiting or paused task due now. Raises `TaskNotFound`, `TaskEnded`, `TaskRunning`."""
        ...

    async def purge(self, project_id: str, task_id: str) -> None:
        """Delete every trace of an ended or paused task. Raises `TaskNotFound`, `TaskRunning`."""
        ...

    async def timeline(
        self, project_id: str, task_id: str, after_sequence: int, limit: int
    ) -> TimelineSlice:
        """Return up to `limit` events after a sequence (0: from the start), with the task.

        Raises `TaskNotFound`; `CursorTooOld` when events after that sequence are not kept any more.
        """
        ...


# --- Store: execution -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that is leased to this instance under a fencing token, to be sent now."""

    project_id: str
    task_id: str
    queue: str
    token: str
    attempt: int
    retry_count: int
    repeat_count: int
    run_start_ms: int
    schedule_time_ms: int
    timeout_ms: int
    target: HttpTarget
    retry: RetryPolicy
    repeat: RepeatPolicy
    signing_secrets: tuple[str, ...] = ()

    @property
    def lease(self) -> "Lease":
        """The key that this claim is renewed, reported and revoked under."""
        return Lease(self.project_id, self.task_id, self.token)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds what: a task under a fencing token."""

    project_id: str
    task_id: str
    token: str


@dataclass(frozen=True, slots=True)
class ClaimBatch:
    """What one partition gave. `next_due_ms`: when to look again (None: nothing is waiting)."""

    partition: int
    claims: Sequence[Claim]
    next_due_ms: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a claimed attempt came to and what follows."""

    lease: Lease
    outcome: Outcome
    decision: Decision


class ExecutionStore(Protocol):
    """Due tasks, leases and reports, by partition. Claims are atomic over any number of instances."""

    @property
    def partitions(self) -> int:
        """How many partitions the store was initialised with."""
        ...

    async def next_due(self) -> dict[int, int]:
        """Return, for each partition with anything due or leased, the instant (ms) to look at it."""
        ...

    async def claim(self, limits: Mapping[int, int], instance: str, lease_ms: int) -> list[ClaimBatch]:
        """Take up to `limits[partition]` due tasks from each partition, leased for `lease_ms`.

        Returns expired leases to their queues first (RECOVERED, same attempt number, no retry used; after
        too many losses FAILED with POISON), and expires tasks past their start deadline. Never gives a
        task before its due time. A queue's turn comes however long another queue's backlog is.
        """
        ...

    async def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[Lease]:
        """Extend leases; return those that are no longer held (canceled, or recovered by others)."""
        ...

    async def report(self, reports: Sequence[Report]) -> list[bool]:
        """Apply outcomes. False: the token is stale, nothing changed."""
        ...

    async def sweep(self) -> None:
        """Drop index entries of tasks whose history has expired. Bounded work per call."""
        ...


# --- Store: signals ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Due:
    """A partition has a new earliest due instant."""

    partition: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A watched task has new events."""

    project_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """Another instance asks this one to abort an attempt and answer with `acknowledge`."""

    lease: Lease
    reply_to: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """The answer to `Revoke`: the attempt will not be sent, or was aborted."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Reconnected:
    """Signals may have been missed: look at everything again."""


Signal = Due | Changed | Revoke | Revoked | Reconnected


class SignalBus(Protocol):
    """Wake-ups between instances. At most once: the store is the truth, a signal only saves time."""

    def listen(self) -> AsyncIterator[Signal]:
        """Yield signals until closed; `Reconnected` first, and after every interruption."""
        ...

    async def follow(self, project_id: str, task_id: str) -> None:
        """Ask for `Changed` of this task; returns when the subscription is in force."""
        ...

    async def unfollow(self, project_id: str, task_id: str) -> None:
        """Stop `Changed` of this task."""
        ...

    async def send_revoke(self, instance: str, revoke: Revoke) -> None:
        """Ask `instance` to abort an attempt."""
        ...

    async def send_revoked(self, instance: str, revoked: Revoked) -> None:
        """Tell `instance` that the attempt was aborted."""
        ...


# --- Store: projects --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant. `task_in_queue` counts its live tasks."""

    project_id: str
    email: str
    create_time_ms: int
    task_in_queue: int
    task_in_queue_limit: int


@dataclass(frozen=True, slots=True)
class Credential:
    """A stored token: only its SHA-256 is kept. `expire_time_ms` None: until rotated."""

    project_id: str
    digest: bytes
    expire_time_ms: int | None = None


class ProjectStore(Protocol):
    """Projects and their credentials."""

    async def create(
        self, email: str, key_id: str, digest: bytes, signing_secret: str, project_id: str
    ) -> None:
        """Make a project. Raises `EmailExists` (addresses compare case-insensitively)."""
        ...

    async def get(self, project_id: str) -> Project:
        """Return the project. Raises `ProjectNotFound`."""
        ...

    async def credential(self, project_id: str, key_id: str) -> Credential | None:
        """Return the credential with that key id, None if there is none."""
        ...

    async def rotate_token(self, project_id: str, key_id: str, digest: bytes, grace_ms: int) -> None:
        """Add a credential; all others end after `grace_ms`. Raises `ProjectNotFound`."""
        ...

    async def rotate_signing_secret(self, project_id: str, secret: str, grace_ms: int) -> None:
        """Sign with `secret` from now on, with the former one beside it for `grace_ms`.

        Raises `ProjectNotFound`.
        """
        ...

    async def epoch(self) -> str:
        """Return the identity of the store's data; it differs after the data was lost."""
        ...
