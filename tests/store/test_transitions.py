"""The store makes the transitions of the domain's table, all of them and no others."""

import pytest

from kuueri_grpc.domain.errors import TaskEnded, TaskRunning
from kuueri_grpc.domain.state import (
    TERMINAL_STATES,
    WAITING_STATES,
    Refused,
    TaskState,
    Trigger,
    next_state,
)
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.store.settings import StoreSettings
from tests.store.drive import LEASE_LOSSES, REPORTS, drive
from tests.store.ports import PROJECT, Ports

#: Every state, and for those that remember it, every waiting state that it can have come from.
SITUATIONS: list[tuple[TaskState, TaskState | None]] = [
    *((state, None) for state in TaskState if state not in (TaskState.PAUSED, TaskState.DISPATCHING)),
    *((TaskState.DISPATCHING, origin) for origin in sorted(WAITING_STATES)),
    *((TaskState.PAUSED, origin) for origin in sorted(WAITING_STATES)),
]

APPENDED = {
    Trigger.CLAIM: [EventType.DISPATCHED],
    Trigger.EXPIRE: [EventType.EXPIRED],
    Trigger.COMPLETE: [EventType.SUCCEEDED, EventType.COMPLETED],
    Trigger.REPEAT: [EventType.SUCCEEDED, EventType.REPEAT_SCHEDULED],
    Trigger.RETRY: [EventType.ERRORED, EventType.RETRY_SCHEDULED],
    Trigger.FAIL: [EventType.ERRORED, EventType.FAILED],
    Trigger.RECOVER: [EventType.RECOVERED],
    Trigger.POISON: [EventType.FAILED],
    Trigger.CANCEL: [EventType.CANCELED],
    Trigger.PAUSE: [EventType.PAUSED],
    Trigger.RESUME: [EventType.RESUMED],
    Trigger.RUN: [EventType.RESUMED],
}

#: Transitions that leave no event: what they ask for is the case, or comes later.
WITHOUT_EVENT = {
    (TaskState.PAUSED, Trigger.PAUSE),
    (TaskState.DISPATCHING, Trigger.PAUSE),
    (TaskState.CANCELED, Trigger.CANCEL),
    *((state, Trigger.RESUME) for state in (*WAITING_STATES, TaskState.DISPATCHING)),
    *((state, Trigger.RUN) for state in WAITING_STATES),
}


def by_trigger(trigger: Trigger) -> StoreSettings:
    return StoreSettings(partitions=4, max_losses=1 if trigger is Trigger.POISON else 5)


def cases(situations: list[tuple[TaskState, TaskState | None]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("state", "origin", "trigger", "store_settings"),
        [
            pytest.param(state, origin, trigger, by_trigger(trigger), id=f"{state}-{origin}-{trigger}")
            for state, origin in situations
            for trigger in Trigger
        ],
    )


def after(state: TaskState, trigger: Trigger, origin: TaskState | None) -> TaskState | None:
    """Return the table's next state, None for a refusal."""
    try:
        return next_state(state, trigger, origin)
    except Refused:
        return None


@cases(SITUATIONS)
async def test_every_state_and_trigger(
    ports: Ports, state: TaskState, origin: TaskState | None, trigger: Trigger
) -> None:
    driven = await drive(ports, state, origin, trigger)
    before, told = ports.raw(), await ports.events(driven.task_id)
    expected = after(state, trigger, origin)

    taken = await driven.apply(trigger)

    if trigger is Trigger.EXPIRE and state in WAITING_STATES and expected is None:
        # Refused to expire, as it has started before: it is due, so it is claimed.
        trigger, expected = Trigger.CLAIM, after(state, Trigger.CLAIM, origin)
    assert await driven.state() is (expected or state)
    assert taken == (expected is not None)
    if expected is None:
        assert without_claims(ports.raw()) == without_claims(before)
        return
    appended = [] if (state, trigger) in WITHOUT_EVENT else APPENDED[trigger]
    assert await ports.events(driven.task_id) == told + appended
    assert await ports.task_in_queue() == (0 if expected in TERMINAL_STATES else 1)


@cases([(TaskState.DISPATCHING, origin) for origin in sorted(WAITING_STATES)])
async def test_every_trigger_on_a_task_that_was_paused_during_its_attempt(
    ports: Ports, state: TaskState, origin: TaskState, trigger: Trigger
) -> None:
    driven = await drive(ports, state, origin, trigger)
    assert await driven.apply(Trigger.PAUSE)
    before, told = ports.raw(), await ports.events(driven.task_id)
    unheld = after(state, trigger, origin)

    taken = await driven.apply(trigger)

    assert taken == (unheld is not None)
    if unheld is None:
        assert without_claims(ports.raw()) == without_claims(before)
        return
    held = unheld in WAITING_STATES
    assert await driven.state() is (TaskState.PAUSED if held else unheld)
    appended = [] if (state, trigger) in WITHOUT_EVENT else APPENDED[trigger]
    assert await ports.events(driven.task_id) == told + appended + ([EventType.PAUSED] if held else [])
    if held:
        # The state that it waits in again is the one that it would have got without the pause.
        assert (await ports.tasks.resume(PROJECT, driven.task_id)).state is unheld


async def test_resume_during_an_attempt_takes_the_pause_back(ports: Ports) -> None:
    driven = await drive(ports, TaskState.DISPATCHING)
    await driven.apply(Trigger.PAUSE)
    await driven.apply(Trigger.RESUME)

    assert await driven.apply(Trigger.RETRY)

    assert await driven.state() is TaskState.RETRYING


@pytest.mark.parametrize("trigger", [Trigger.PAUSE, Trigger.RESUME, Trigger.RUN, Trigger.CANCEL])
@pytest.mark.parametrize("state", sorted(TERMINAL_STATES - {TaskState.CANCELED}))
async def test_the_refusal_of_an_ended_task_names_its_end(
    ports: Ports, state: TaskState, trigger: Trigger
) -> None:
    driven = await drive(ports, state)
    call = getattr(ports.tasks, trigger.lower())

    with pytest.raises(TaskEnded, match=f"has ended as {state}") as refusal:
        await call(PROJECT, driven.task_id)

    assert refusal.value.state is state


async def test_a_task_whose_attempt_is_in_flight_is_not_run_again(ports: Ports) -> None:
    driven = await drive(ports, TaskState.DISPATCHING)

    with pytest.raises(TaskRunning, match="an attempt is in flight"):
        await ports.tasks.run(PROJECT, driven.task_id)


def without_claims(store: object) -> object:
    """Return the data without the ids of latest claims: those are of the calls, not of the tasks."""
    databases = store.databases  # type: ignore[attr-defined]
    return [{key: entry for key, entry in db.items() if ":claim:" not in key} for db in databases]


def test_the_cases_have_every_trigger() -> None:
    assert set(APPENDED) == set(Trigger)
    assert not REPORTS & LEASE_LOSSES
