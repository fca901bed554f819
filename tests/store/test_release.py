"""Leases that are handed back before they run out."""

import pytest

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.ports import Lease
from kuueri_grpc.store.settings import StoreSettings
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


async def test_a_task_handed_back_is_due_at_once_under_the_same_attempt(ports: Ports) -> None:
    await ports.subscribe(spec("one"))
    first = await ports.take("one")

    assert await ports.execution.release([first.lease]) == [True]

    again = await ports.take("one")
    assert (again.attempt, again.retry_count) == (first.attempt, first.retry_count)
    assert again.token != first.token
    assert await ports.events("one") == [
        EventType.SUBSCRIBED,
        EventType.DISPATCHED,
        EventType.RECOVERED,
        EventType.DISPATCHED,
    ]
    told = (await ports.tasks.timeline(PROJECT, "one", 2, 1)).events[0]
    assert (told.reason, told.attempt) == (Reason.HANDED_BACK, 1)
    assert told.next_time_ms == told.create_time_ms


async def test_what_its_holder_reports_afterwards_changes_nothing(ports: Ports) -> None:
    await ports.subscribe(spec("one"))
    claim = await ports.take("one")
    await ports.execution.release([claim.lease])

    assert not await ports.report(claim.lease, Trigger.COMPLETE)
    assert (await ports.execution.renew([claim.lease], HOUR_MS)).lost == [claim.lease]
    assert (await ports.tasks.get(PROJECT, "one")).state is TaskState.SCHEDULED


async def test_a_lease_is_handed_back_once_and_a_stale_one_never(ports: Ports) -> None:
    await ports.subscribe(spec("one"), spec("two"))
    leases = [claim.lease for claim in await ports.claim()]
    assert await ports.report(leases[1], Trigger.COMPLETE)

    assert await ports.execution.release([leases[0], leases[0], leases[1]]) == [True, False, False]
    assert await ports.execution.release([*leases, Lease(PROJECT, "never", "seen")]) == [False] * 3
    assert (await ports.events("one")).count(EventType.RECOVERED) == 1


async def test_a_task_paused_during_its_attempt_is_held(ports: Ports) -> None:
    await ports.subscribe(spec("one"))
    claim = await ports.take("one")
    await ports.tasks.pause(PROJECT, "one")

    await ports.execution.release([claim.lease])

    assert (await ports.tasks.get(PROJECT, "one")).state is TaskState.PAUSED
    assert not await ports.claim()
    await ports.tasks.resume(PROJECT, "one")
    assert (await ports.take("one")).attempt == 1


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, max_losses=2)])
async def test_it_brings_a_task_no_nearer_to_poison(ports: Ports) -> None:
    await ports.subscribe(spec("one"))
    for _ in range(5):
        await ports.execution.release([(await ports.take("one")).lease])
    assert (await ports.tasks.get(PROJECT, "one")).state is TaskState.SCHEDULED


async def test_many_are_handed_back_in_one_call(ports: Ports) -> None:
    other = await ports.create_project("project0000000001")
    for project_id in (PROJECT, other):
        await ports.subscribe(*(spec(f"task-{n}") for n in range(250)), project_id=project_id)
    leases = []
    for project_id in (PROJECT, other):
        leases += [claim.lease for claim in await ports.claim(250, project_id=project_id)]

    assert await ports.execution.release(leases) == [True] * 500
    assert len(await ports.claim(250)) == 250


async def test_nothing_to_hand_back(ports: Ports) -> None:
    assert await ports.execution.release([]) == []
