"""Port: due tasks, leases and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.task import HttpTarget, RepeatPolicy, RetryPolicy


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
    """What one partition gave. `next_due_ms`: when to look again (None: nothing is waiting).

    Besides the claims it says what else the call did: tasks (project id, task id) whose leases had run out,
    `recovered` into their queues or `poisoned`, and how many tasks were `expired`. After a lost answer this
    is not said again.
    """

    partition: int
    claims: Sequence[Claim]
    next_due_ms: int | None
    recovered: Sequence[tuple[str, str]] = ()
    poisoned: Sequence[tuple[str, str]] = ()
    expired: int = 0


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

    async def release(self, leases: Sequence[Lease]) -> int:
        """Give leases back whose attempts were aborted; return how many were still held.

        Their tasks are due at once (RECOVERED with HANDED_BACK, same attempt number, no retry used, no
        loss counted), or held where Pause had come. A stale token changes nothing.
        """
        ...

    async def sweep(self) -> None:
        """Drop index entries of tasks whose history has expired. Bounded work per call."""
        ...
