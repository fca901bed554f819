"""The state machine: what holds for every task, whatever happens to it in whatever order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kuueri_grpc.domain.state import (
    ORIGIN,
    TERMINAL_STATES,
    TRANSITIONS,
    WAITING_STATES,
    Refused,
    TaskState,
    Trigger,
    next_state,
)

EVERY_PAIR = [(state, trigger) for state in TaskState for trigger in Trigger]
LIVE_STATES = frozenset(TaskState) - TERMINAL_STATES
REPEATABLE_CALLS = [Trigger.CANCEL, Trigger.PAUSE, Trigger.RESUME, Trigger.RUN]


def successors(state: TaskState) -> set[TaskState]:
    """Return the states that some trigger leads to, whatever the origin."""
    reached: set[TaskState] = set()
    for (source, _), target in TRANSITIONS.items():
        if source is state:
            reached |= {target} if isinstance(target, TaskState) else WAITING_STATES
    return reached


def reachable(start: TaskState) -> set[TaskState]:
    found = {start}
    frontier = {start}
    while frontier:
        frontier = {after for state in frontier for after in successors(state)} - found
        found |= frontier
    return found


def test_states_are_waiting_terminal_or_in_between() -> None:
    assert not WAITING_STATES & TERMINAL_STATES
    assert {TaskState.DISPATCHING, TaskState.PAUSED} == LIVE_STATES - WAITING_STATES


def test_a_new_task_can_get_into_every_state() -> None:
    assert reachable(TaskState.SCHEDULED) == set(TaskState)


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_no_live_state_is_a_dead_end(state: TaskState) -> None:
    assert TaskState.COMPLETED in reachable(state)


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_nothing_leads_out_of_a_terminal_state(state: TaskState) -> None:
    accepted = {trigger for trigger in Trigger if (state, trigger) in TRANSITIONS}
    # A repeated Cancel whose answer was lost must find what the first one left.
    assert accepted == ({Trigger.CANCEL} if state is TaskState.CANCELED else set())
    assert successors(state) <= {state}


@pytest.mark.parametrize(("state", "trigger"), EVERY_PAIR)
def test_every_pair_is_in_the_table_or_refused(state: TaskState, trigger: Trigger) -> None:
    if (state, trigger) in TRANSITIONS:
        assert next_state(state, trigger, TaskState.RETRYING) in TaskState
        return
    with pytest.raises(Refused, match=f"a {state} task does not take {trigger}") as refusal:
        next_state(state, trigger, TaskState.RETRYING)
    assert (refusal.value.state, refusal.value.trigger) == (state, trigger)


@pytest.mark.parametrize(
    ("trigger", "state"),
    [
        (Trigger.COMPLETE, TaskState.COMPLETED),
        (Trigger.REPEAT, TaskState.REPEATING),
        (Trigger.RETRY, TaskState.RETRYING),
        (Trigger.FAIL, TaskState.FAILED),
        (Trigger.POISON, TaskState.FAILED),
    ],
)
def test_where_an_attempt_leads(trigger: Trigger, state: TaskState) -> None:
    assert next_state(TaskState.DISPATCHING, trigger) is state


def test_what_leads_back_to_the_origin() -> None:
    assert {pair for pair, target in TRANSITIONS.items() if target is ORIGIN} == {
        (TaskState.DISPATCHING, Trigger.RECOVER),
        (TaskState.PAUSED, Trigger.RESUME),
        (TaskState.PAUSED, Trigger.RUN),
    }


@pytest.mark.parametrize("origin", sorted(WAITING_STATES))
@pytest.mark.parametrize(
    ("state", "trigger"), [pair for pair, target in TRANSITIONS.items() if target is ORIGIN]
)
def test_back_to_the_origin(state: TaskState, trigger: Trigger, origin: TaskState) -> None:
    assert next_state(state, trigger, origin) is origin


@pytest.mark.parametrize("origin", [None, *sorted(frozenset(TaskState) - WAITING_STATES)])
@pytest.mark.parametrize(
    ("state", "trigger"), [pair for pair, target in TRANSITIONS.items() if target is ORIGIN]
)
def test_only_a_waiting_state_is_an_origin(
    state: TaskState, trigger: Trigger, origin: TaskState | None
) -> None:
    with pytest.raises(ValueError, match=f"needs the waiting state it came from, got {origin}"):
        next_state(state, trigger, origin)


@pytest.mark.parametrize("trigger", REPEATABLE_CALLS)
@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_a_call_repeated_after_a_lost_answer_changes_nothing_more(state: TaskState, trigger: Trigger) -> None:
    if (state, trigger) not in TRANSITIONS:
        assert (state, trigger) == (TaskState.DISPATCHING, Trigger.RUN)
        return
    once = next_state(state, trigger, TaskState.REPEATING)
    assert next_state(once, trigger, TaskState.REPEATING) is once


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_every_live_task_can_be_canceled_and_paused(state: TaskState) -> None:
    assert next_state(state, Trigger.CANCEL) is TaskState.CANCELED
    held = state is TaskState.DISPATCHING
    assert next_state(state, Trigger.PAUSE) is (TaskState.DISPATCHING if held else TaskState.PAUSED)


@pytest.mark.parametrize("trigger", [Trigger.RETRY, Trigger.REPEAT, Trigger.RECOVER])
def test_a_held_task_can_be_paused_whatever_its_attempt_came_to(trigger: Trigger) -> None:
    waiting = next_state(TaskState.DISPATCHING, trigger, TaskState.SCHEDULED)
    assert next_state(waiting, Trigger.PAUSE) is TaskState.PAUSED
    assert next_state(TaskState.PAUSED, Trigger.RESUME, waiting) is waiting


def test_an_attempt_starts_by_a_claim_alone_and_only_from_a_wait() -> None:
    starts = {
        pair
        for pair, target in TRANSITIONS.items()
        if target is TaskState.DISPATCHING and pair[0] is not TaskState.DISPATCHING
    }
    assert starts == {(waiting, Trigger.CLAIM) for waiting in WAITING_STATES}


def test_only_the_first_wait_can_expire() -> None:
    assert {state for state, trigger in TRANSITIONS if trigger is Trigger.EXPIRE} == {TaskState.SCHEDULED}


class AnyHistory(RuleBasedStateMachine):
    """Any triggers in any order, with the origin kept as a store keeps it."""

    state = TaskState.SCHEDULED
    origin: TaskState | None = None
    ended_as: TaskState | None = None

    @initialize(begin=st.sampled_from(sorted(WAITING_STATES)))
    def begin(self, begin: TaskState) -> None:
        self.state = begin

    @rule(trigger=st.sampled_from(Trigger))
    def happens(self, trigger: Trigger) -> None:
        before = self.state
        try:
            self.state = next_state(before, trigger, self.origin)
        except Refused:
            assert (before, trigger) not in TRANSITIONS
            return
        if before in WAITING_STATES:
            self.origin = before
        if self.ended_as is None and self.state in TERMINAL_STATES:
            self.ended_as = self.state

    @invariant()
    def what_ended_stays_as_it_is(self) -> None:
        assert self.ended_as in {None, self.state}

    @invariant()
    def what_does_not_wait_knows_where_it_came_from(self) -> None:
        if self.state in {TaskState.DISPATCHING, TaskState.PAUSED}:
            assert self.origin in WAITING_STATES

    @invariant()
    def what_is_live_can_be_canceled(self) -> None:
        if self.state not in TERMINAL_STATES:
            assert next_state(self.state, Trigger.CANCEL, self.origin) is TaskState.CANCELED


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30)
