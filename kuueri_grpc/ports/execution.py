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
    #: When it could start at the earliest (ms): it is late since then. Like `run_start_ms` by the engine's
    #: clock, while `schedule_time_ms` and `create_time_ms` are as they are kept.
    due_ms: int = 0
    #: Bytes of its request, as it is kept.
    size: int = 0
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


#: A lane of a project: its id, and `Claim.lane`. What is full for one project is so for no other.
ProjectLane = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Room:
    """What a process has room for when it claims. By default for anything.

    Args:
        full: lanes from which nothing is to be taken.
        suspect_from: the partition that may give a suspect; None: none may.
        shares: how many more tasks may be taken of these projects.
        share: how many of any other project; None: as many as there are.
        sizes: how many bytes of requests each of these partitions may give together.
        larger_from: the partition whose first task may be larger than that.
        passed: the `ClaimBatch.passed` of an earlier claim, by partition, where there has been no room since
            for more than there was then.
    """

    full: Collection[ProjectLane] = ()
    suspect_from: int | None = None
    shares: Mapping[str, int] = field(default_factory=dict)
    share: int | None = None
    sizes: Mapping[int, int] = field(default_factory=dict)
    larger_from: int | None = None
    passed: Mapping[int, int] = field(default_factory=dict)


ANY_ROOM = Room()


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
    `left_suspects`: there may be suspects that are due; `left_projects`: projects that have due tasks beyond
    their share; `left_bytes`: there are due tasks that are larger than the room was.

    `next_due_ms` is of what the caller has room for. `next_chore_ms`: when to look again also without room
    for anything, as a lease or a start deadline ends. `passed`: where in the index the next claim may begin.
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
    left_projects: Sequence[str] = ()
    left_bytes: bool = False
    next_chore_ms: int | None = None
    passed: int | None = None


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
        room: Room = ANY_ROOM,
    ) -> list[ClaimBatch]:
        """Take up to `limits[partition]` due tasks from each partition, leased for `lease_ms`.

        Tasks that the caller has no room for are left to those who have, and nothing waits behind them: those
        of lanes that are full and of projects that have their share. So are suspects, but for one of one
        partition: attempts that were lost twice with their process, which may have been the cause, or have
        been beside it. Limits of 0 take nothing; what follows is done all the same.

        Returns expired leases to their queues first (RECOVERED, same attempt number, no retry used; after
        too many losses FAILED with POISON, where those of a suspect only count while it is watched), and
        expires tasks past their start deadline, wherever they wait. Never gives a task before its due time.
        A queue's turn comes however long another queue's backlog is. A partition that cannot be asked gives
        nothing, and is to be looked at again soon. What the answer to an earlier claim of this instance would
        have given, had it come, is due again at once, without a loss.
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
