"""Port: due tasks, leases and reports."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.task import HttpTarget, RepeatPolicy, RetryPolicy
from kuueri_grpc.domain.timeline import Reason


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
    create_time_ms: int
    timeout_ms: int
    target: HttpTarget
    retry: RetryPolicy
    repeat: RepeatPolicy
    signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    #: Tasks of one lane go to the same place, nearly always. None: the task is in no lane.
    lane: int | None = None
    #: Set (ms) for a suspect, which may have been what took its process down before: for so long no other
    #: suspect may start beside it.
    watch_ms: int = 0

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
class LostAttempt:
    """An attempt whose lease ended without an outcome, and why."""

    project_id: str
    task_id: str
    attempt: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class ClaimBatch:
    """What one partition gave. `next_due_ms`: when to look again (None: nothing is waiting).

    Besides the claims it says what else the call did: attempts whose leases had run out, `recovered` into
    their queues or `poisoned`, how many tasks were `expired`, and which tasks (project id, task id) were due
    and have FAILED with UNREADABLE, because what is kept of them cannot be read. After a lost answer this is
    not said again. `left_lanes`: there are due tasks in lanes that the caller had no room for;
    `left_suspects`: there may be suspects that are due.
    """

    partition: int
    claims: Sequence[Claim]
    next_due_ms: int | None
    recovered: Sequence[LostAttempt] = ()
    poisoned: Sequence[LostAttempt] = ()
    expired: int = 0
    unreadable: Sequence[tuple[str, str]] = ()
    left_lanes: bool = False
    left_suspects: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a claimed attempt came to and what follows."""

    lease: Lease
    outcome: Outcome
    decision: Decision


@dataclass(frozen=True, slots=True)
class Renewal:
    """`held`: leases that were extended. `lost`: held no longer (canceled, or recovered by others).

    Leases in neither could not be asked about now.
    """

    held: list[Lease]
    lost: list[Lease]


class ExecutionStore(Protocol):
    """Due tasks, leases and reports, by partition. Claims are atomic over any number of instances.

    Where some partitions cannot be asked at the moment, those that can are served all the same.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the store was initialised with."""
        ...

    async def next_due(self) -> dict[int, int]:
        """Return, for each partition with anything due or leased, the instant (ms) to look at it.

        One that cannot be asked is to be looked at soon.
        """
        ...

    async def claim(
        self,
        limits: Mapping[int, int],
        instance: str,
        lease_ms: int,
        full: Collection[int] = (),
        suspect_from: int | None = None,
    ) -> list[ClaimBatch]:
        """Take up to `limits[partition]` due tasks from each partition, leased for `lease_ms`.

        Tasks of the lanes in `full` are left to those who have room for them, and nothing waits behind them.
        So are suspects, but for one of the partition `suspect_from`: attempts that were lost twice with their
        process, which may have been the cause, or have been beside it.

        Returns expired leases to their queues first (RECOVERED, same attempt number, no retry used; after
        too many losses FAILED with POISON, where those of a suspect only count while it is watched), and
        expires tasks past their start deadline. Never gives a task before its due time. A queue's turn comes
        however long another queue's backlog is. A partition that cannot be asked gives nothing, and is to be
        looked at again soon. What the answer to an earlier claim of this instance would have given, had it
        come, is due again at once, without a loss.
        """
        ...

    async def renew(self, leases: Sequence[Lease], lease_ms: int) -> Renewal:
        """Extend leases."""
        ...

    async def report(self, reports: Sequence[Report]) -> list[bool | None]:
        """Apply outcomes. False: the token is stale, nothing changed. None: to be reported again."""
        ...

    async def release(self, leases: Sequence[Lease]) -> list[bool | None]:
        """Give leases back whose attempts were aborted.

        Their tasks are due at once (RECOVERED with HANDED_BACK, same attempt number, no retry used, no
        loss counted), or held where Pause had come. True: given back. False: the token is stale, nothing
        changed. None: could not be asked; the lease runs out.
        """
        ...

    async def sweep(self) -> None:
        """Drop index entries of tasks whose history has expired. In short steps, until none is left."""
        ...
