"""The state machine of a task, as a table. Drawn and explained in `docs/state_machine.md`.

The store's scripts make the transitions; a conformance test runs every pair of state and trigger
against them and compares the result with this table, so that the two cannot drift apart.
"""

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is in its life. The values are what the store keeps."""

    SCHEDULED = "SCHEDULED"
    DISPATCHING = "DISPATCHING"
    RETRYING = "RETRYING"
    REPEATING = "REPEATING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"


WAITING_STATES = frozenset({TaskState.SCHEDULED, TaskState.RETRYING, TaskState.REPEATING})
TERMINAL_STATES = frozenset({TaskState.COMPLETED, TaskState.CANCELED, TaskState.FAILED, TaskState.EXPIRED})


class Trigger(StrEnum):
    """What moves a task from one state to another."""

    CLAIM = "CLAIM"  # due, and a scheduler took it
    EXPIRE = "EXPIRE"  # due, but past its start deadline
    COMPLETE = "COMPLETE"  # success answer, no repetition left
    REPEAT = "REPEAT"  # success answer, a repetition left
    RETRY = "RETRY"  # error answer, a retry left
    FAIL = "FAIL"  # error answer, no retry left
    RECOVER = "RECOVER"  # the lease ran out: its holder died or hung
    POISON = "POISON"  # the lease ran out once too often
    CANCEL = "CANCEL"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    RUN = "RUN"  # RunTask: due now


class Refused(Exception):
    """The trigger has no place in this state."""

    def __init__(self, state: TaskState, trigger: Trigger) -> None:
        super().__init__(f"a {state} task does not take {trigger}")
        self.state = state
        self.trigger = trigger


class Origin:
    """Marks a transition back to the waiting state that the task came from."""


ORIGIN = Origin()

_S = TaskState
_T = Trigger

#: (state, trigger) -> next state, or ORIGIN. Any pair that is not here is refused.
TRANSITIONS: dict[tuple[TaskState, Trigger], TaskState | Origin] = {
    **{(waiting, _T.CLAIM): _S.DISPATCHING for waiting in WAITING_STATES},
    # Only the first attempt has a start deadline, so only SCHEDULED expires.
    (_S.SCHEDULED, _T.EXPIRE): _S.EXPIRED,
    (_S.DISPATCHING, _T.COMPLETE): _S.COMPLETED,
    (_S.DISPATCHING, _T.REPEAT): _S.REPEATING,
    (_S.DISPATCHING, _T.RETRY): _S.RETRYING,
    (_S.DISPATCHING, _T.FAIL): _S.FAILED,
    (_S.DISPATCHING, _T.RECOVER): ORIGIN,
    (_S.DISPATCHING, _T.POISON): _S.FAILED,
    **{(live, _T.CANCEL): _S.CANCELED for live in (*WAITING_STATES, _S.DISPATCHING, _S.PAUSED, _S.CANCELED)},
    **{(waiting, _T.PAUSE): _S.PAUSED for waiting in (*WAITING_STATES, _S.PAUSED)},
    # The attempt in flight goes on; the task is held instead of its next wait.
    (_S.DISPATCHING, _T.PAUSE): _S.DISPATCHING,
    (_S.PAUSED, _T.RESUME): ORIGIN,
    **{(live, _T.RESUME): live for live in (*WAITING_STATES, _S.DISPATCHING)},
    **{(waiting, _T.RUN): waiting for waiting in WAITING_STATES},
    (_S.PAUSED, _T.RUN): ORIGIN,
}


def next_state(state: TaskState, trigger: Trigger, origin: TaskState | None = None) -> TaskState:
    """Return the state after `trigger`.

    `origin` is the waiting state that a PAUSED or DISPATCHING task came from.

    Raises:
        Refused: the table has no such transition.
        ValueError: the transition leads back to the origin, and none or no waiting state was given.
    """
    target = TRANSITIONS.get((state, trigger))
    if target is None:
        raise Refused(state, trigger)
    if isinstance(target, TaskState):
        return target
    if origin not in WAITING_STATES:
        raise ValueError(f"{trigger} on a {state} task needs the waiting state it came from, got {origin}")
    return origin
