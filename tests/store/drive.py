"""Bring a real task into a state, and apply a trigger to it, through the store alone."""

from dataclasses import dataclass
from itertools import count

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.errors import WrongState
from kuueri_grpc.domain.state import TERMINAL_STATES, TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.ports import Lease, Report
from tests.store.ports import ERROR, HOUR_MS, PROJECT, SUCCESS, Ports, spec

REPORTS = frozenset({Trigger.COMPLETE, Trigger.REPEAT, Trigger.RETRY, Trigger.FAIL})
LEASE_LOSSES = frozenset({Trigger.RECOVER, Trigger.POISON})

#: Long enough for the first attempt to start in time on a busy machine, short enough to wait for.
_START_DEADLINE_MS = 1_000
_SHORT_LEASE_MS = 20

_ids = count()


@dataclass
class Driven:
    """A task in a state. `lease`: of its latest attempt, whether that is still in flight or not."""

    ports: Ports
    task_id: str
    lease: Lease
    lease_end_ms: int = 0
    deadline_ms: int = 0

    async def state(self) -> TaskState:
        return (await self.ports.tasks.get(PROJECT, self.task_id)).state

    async def apply(self, trigger: Trigger) -> bool:
        """Apply a trigger; return whether the store took it, for a claim whether it did anything."""
        if trigger in REPORTS:
            return await self.ports.report(self.lease, trigger)
        if trigger in LEASE_LOSSES:
            await self.ports.until(self.lease_end_ms + 1)
            return await self._moved_by_claim(limit=0)
        if trigger is Trigger.EXPIRE:
            await self.ports.until(self.deadline_ms + 1)
        if trigger in (Trigger.CLAIM, Trigger.EXPIRE):
            return await self._moved_by_claim(limit=100)
        return await self._command(trigger)

    async def _moved_by_claim(self, limit: int) -> bool:
        before = await self.ports.tasks.get(PROJECT, self.task_id)
        claims = await self.ports.claim(limit)
        for claim in claims:
            assert (claim.project_id, claim.task_id) == (PROJECT, self.task_id)
            self.lease = claim.lease
        return bool(claims) or await self.ports.tasks.get(PROJECT, self.task_id) != before

    async def _command(self, trigger: Trigger) -> bool:
        tasks = self.ports.tasks
        calls = {
            Trigger.CANCEL: tasks.cancel,
            Trigger.PAUSE: tasks.pause,
            Trigger.RESUME: tasks.resume,
            Trigger.RUN: tasks.run,
        }
        try:
            await calls[trigger](PROJECT, self.task_id)
        except WrongState:
            return False
        return True


async def drive(
    ports: Ports, state: TaskState, origin: TaskState | None = None, trigger: Trigger | None = None
) -> Driven:
    """Make a task and bring it into `state`, ready for `trigger`.

    `origin` is the waiting state that a PAUSED or DISPATCHING task is to come from.
    """
    task_id = f"task-{next(_ids)}"
    driven = Driven(ports, task_id, Lease(PROJECT, task_id, "no-lease-yet"))
    to_be_claimed = trigger in (Trigger.CLAIM, Trigger.EXPIRE)
    match state:
        case TaskState.SCHEDULED | TaskState.RETRYING | TaskState.REPEATING:
            await _wait(driven, state, due=to_be_claimed, expires=trigger is Trigger.EXPIRE)
        case TaskState.DISPATCHING:
            await _dispatch(driven, origin or TaskState.SCHEDULED, short=trigger in LEASE_LOSSES)
        case TaskState.PAUSED:
            await _wait(driven, origin or TaskState.SCHEDULED, due=False)
            await ports.tasks.pause(PROJECT, task_id)
        case TaskState.CANCELED:
            await _dispatch(driven, TaskState.SCHEDULED)
            await ports.tasks.cancel(PROJECT, task_id)
        case TaskState.COMPLETED | TaskState.FAILED:
            await _dispatch(driven, TaskState.SCHEDULED)
            end = Trigger.COMPLETE if state is TaskState.COMPLETED else Trigger.FAIL
            assert await ports.report(driven.lease, end)
        case TaskState.EXPIRED:
            late = Schedule(at_ms=await ports.now_ms() - 1_000, start_deadline_ms=1)
            await ports.subscribe(spec(task_id, schedule=late))
            assert not await ports.claim()
    assert await driven.state() is state
    if state in TERMINAL_STATES:
        # What a holder would report that does not know of the end: never the token of an applied report.
        driven.lease = Lease(PROJECT, task_id, "stale")
    return driven


async def _wait(driven: Driven, state: TaskState, *, due: bool, expires: bool = False) -> None:
    """Bring a task into a waiting state, due now or in an hour. `expires`: it has a start deadline."""
    ports = driven.ports
    first = state is TaskState.SCHEDULED
    now_ms = await ports.now_ms()
    deadline_ms = _START_DEADLINE_MS if expires else None
    if first and expires:
        now_ms -= _START_DEADLINE_MS
    schedule = Schedule(at_ms=now_ms if due or not first else now_ms + HOUR_MS, start_deadline_ms=deadline_ms)
    await ports.subscribe(spec(driven.task_id, schedule=schedule))
    if first:
        return
    await _claim(driven)
    trigger = Trigger.RETRY if state is TaskState.RETRYING else Trigger.REPEAT
    outcome = ERROR if state is TaskState.RETRYING else SUCCESS
    decision = Decision(trigger, at_ms=0 if due else now_ms + HOUR_MS)
    assert await ports.execution.report([Report(driven.lease, outcome, decision)]) == [True]
    due_ms = (await ports.tasks.get(PROJECT, driven.task_id)).schedule_time_ms
    assert due_ms is not None
    driven.deadline_ms = due_ms + _START_DEADLINE_MS if expires else 0
    # That attempt is over: its holder has nothing to report any more.
    driven.lease = Lease(PROJECT, driven.task_id, "stale")


async def _dispatch(driven: Driven, origin: TaskState, *, short: bool = False) -> None:
    await _wait(driven, origin, due=True)
    await _claim(driven, _SHORT_LEASE_MS if short else HOUR_MS)


async def _claim(driven: Driven, lease_ms: int = HOUR_MS) -> None:
    claim = await driven.ports.take(driven.task_id, lease_ms)
    driven.lease = claim.lease
    # Known to have ended for sure a lease time after this: the store started it before it answered.
    driven.lease_end_ms = await driven.ports.now_ms() + lease_ms if lease_ms < HOUR_MS else 0
