"""RunTask and the start deadline: a task that is to run now runs, however late a worker comes to it."""

import asyncio

import pytest

from kuueri_grpc.domain.errors import TaskEnded
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType, Reason
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

DEADLINE_MS = 5
DUE = Schedule(delay_ms=0, start_deadline_ms=DEADLINE_MS)
LATER = Schedule(delay_ms=HOUR_MS, start_deadline_ms=DEADLINE_MS)


async def pass_deadline(ports: Ports) -> None:
    await ports.until(await ports.now_ms() + DEADLINE_MS + 2)


async def events(ports: Ports, task_id: str = "a") -> list[tuple[EventType, Reason | None]]:
    kept = await ports.tasks.timeline(PROJECT, task_id, 0, 100)
    return [(event.type, event.reason) for event in kept.events]


@pytest.mark.parametrize("schedule", [DUE, LATER], ids=["past its deadline", "before its time"])
async def test_it_runs_and_its_timeline_says_why(ports: Ports, schedule: Schedule) -> None:
    await ports.subscribe(spec("a", schedule=schedule))
    await pass_deadline(ports)
    task = await ports.tasks.run(PROJECT, "a")
    assert task.schedule_time_ms is not None
    await pass_deadline(ports)  # no worker has room meanwhile

    claim = await ports.take("a")

    assert claim.attempt == 1
    assert await events(ports) == [(EventType.SUBSCRIBED, None), (EventType.DISPATCHED, Reason.RUN_NOW)]


async def test_one_that_was_paused_runs(ports: Ports) -> None:
    await ports.subscribe(spec("a", schedule=DUE))
    await ports.tasks.pause(PROJECT, "a")
    await pass_deadline(ports)
    await ports.tasks.run(PROJECT, "a")
    await pass_deadline(ports)

    await ports.take("a")

    assert (await events(ports))[-2:] == [
        (EventType.RESUMED, Reason.RUN_NOW),
        (EventType.DISPATCHED, Reason.RUN_NOW),
    ]


async def test_one_that_has_expired_before_is_refused(ports: Ports) -> None:
    await ports.subscribe(spec("a", schedule=DUE))
    await pass_deadline(ports)
    assert not await ports.claim()

    with pytest.raises(TaskEnded) as refusal:
        await ports.tasks.run(PROJECT, "a")

    assert refusal.value.state is TaskState.EXPIRED


async def test_a_pause_takes_it_back(ports: Ports) -> None:
    await ports.subscribe(spec("a", schedule=LATER))
    await ports.tasks.run(PROJECT, "a")
    await ports.tasks.pause(PROJECT, "a")
    await ports.tasks.resume(PROJECT, "a")
    await pass_deadline(ports)

    assert not await ports.claim()

    assert (await events(ports))[-1] == (EventType.EXPIRED, Reason.START_DEADLINE)


async def test_with_claims_at_the_same_time_each_task_runs_or_is_refused(ports: Ports) -> None:
    names = [f"t{n}" for n in range(60)]
    await ports.subscribe(*(spec(name, schedule=DUE) for name in names))
    await pass_deadline(ports)

    async def run(name: str) -> bool:
        try:
            await ports.tasks.run(PROJECT, name)
        except TaskEnded:
            return False
        return True

    async def claim() -> None:
        for _ in range(10):
            await ports.claim(10)

    *answers, _ = await asyncio.gather(*map(run, names[:30]), claim(), *map(run, names[30:]), claim())
    await ports.claim()

    accepted = [answer for answer in answers if answer is not None]
    last = {name: (await events(ports, name))[-1] for name in names}
    ran = (EventType.DISPATCHED, Reason.RUN_NOW)
    assert [last[name] == ran for name in names] == accepted
    assert set(last.values()) <= {ran, (EventType.EXPIRED, Reason.START_DEADLINE)}
