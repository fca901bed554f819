"""Leases and fencing: who lost a task changes nothing, and nobody's loss is the user's."""

import dataclasses

import pytest

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Attempt
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.ports import Claim, Lease, Renewal
from kuueri_grpc.store.settings import StoreSettings
from tests.store.drive import REPORTS, drive
from tests.store.ports import HOUR_MS, PROJECT, Ports, report, spec

#: Long enough to be seen, short enough to wait for.
LEASE_MS = 20


async def run_out(ports: Ports) -> None:
    """Wait until every lease of LEASE_MS that there is has run out."""
    await ports.until(await ports.now_ms() + LEASE_MS + 1)


async def lose(ports: Ports, task_id: str) -> Claim:
    """Claim a task for a holder that is not heard of again."""
    claim = await ports.take(task_id, LEASE_MS)
    await run_out(ports)
    return claim


class TestFencing:
    @pytest.mark.parametrize("trigger", sorted(REPORTS))
    async def test_a_stale_report_is_refused(self, ports: Ports, trigger: Trigger) -> None:
        driven = await drive(ports, TaskState.DISPATCHING)
        before = ports.raw()
        stale = dataclasses.replace(driven.lease, token="somebody-else")

        assert await ports.execution.report([report(stale, trigger)]) == [False]

        assert ports.raw().databases == before.databases

    async def test_a_report_after_cancel_is_refused(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.DISPATCHING)
        await ports.tasks.cancel(PROJECT, driven.task_id)
        before = ports.raw()

        assert not await ports.report(driven.lease, Trigger.COMPLETE)

        assert ports.raw().databases == before.databases

    async def test_a_report_after_purge_is_refused(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.DISPATCHING)
        await ports.tasks.cancel(PROJECT, driven.task_id)
        await ports.tasks.purge(PROJECT, driven.task_id)
        before = ports.raw()

        assert not await ports.report(driven.lease, Trigger.COMPLETE)

        assert ports.raw().databases == before.databases

    async def test_a_report_after_recovery_is_refused(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        lost = await lose(ports, "a")
        taken_again = await ports.take("a")
        before = ports.raw()

        assert not await ports.report(lost.lease, Trigger.COMPLETE)

        assert ports.raw().databases == before.databases
        assert await ports.report(taken_again.lease, Trigger.COMPLETE)

    async def test_a_late_report_counts_while_nobody_has_taken_the_task_back(self, ports: Ports) -> None:
        """A lease that has run out is lost when another claim says so, not before."""
        await ports.subscribe(spec("a"))
        lost = await lose(ports, "a")

        assert await ports.report(lost.lease, Trigger.COMPLETE)

        assert EventType.RECOVERED not in await ports.events("a")

    async def test_a_batch_is_refused_only_where_it_is_stale(self, ports: Ports) -> None:
        await ports.subscribe(*(spec(f"t{n}") for n in range(250)))
        claims = [claim for _ in range(3) for claim in await ports.claim(100)]
        await ports.tasks.cancel(PROJECT, claims[7].task_id)
        await ports.tasks.cancel(PROJECT, claims[140].task_id)

        applied = await ports.execution.report([report(claim.lease, Trigger.COMPLETE) for claim in claims])

        assert [place for place, yes in enumerate(applied) if not yes] == [7, 140]
        assert await ports.task_in_queue() == 0

    async def test_reports_of_several_projects_are_answered_in_order(self, ports: Ports) -> None:
        projects = [await ports.create_project(f"project{n:010}") for n in range(1, 9)]
        leases = []
        for n, project in enumerate(projects):
            await ports.subscribe(spec("a"), project_id=project)
            (claim,) = await ports.claim(project_id=project)
            leases.append(claim.lease if n % 3 else dataclasses.replace(claim.lease, token="stale"))

        applied = await ports.execution.report([report(lease, Trigger.COMPLETE) for lease in leases])

        assert applied == [bool(n % 3) for n in range(8)]

    async def test_a_report_that_is_twice_in_a_batch_counts_once(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.DISPATCHING)

        applied = await ports.execution.report([report(driven.lease, Trigger.RETRY)] * 2)

        assert applied == [True, True]
        assert (await ports.tasks.get(PROJECT, driven.task_id)).retry_count == 1


async def test_a_report_keeps_what_the_attempt_came_to(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    claim = await ports.take("a")
    (event,) = (await ports.tasks.timeline(PROJECT, "a", 1, 1)).events

    await ports.report(claim.lease, Trigger.RETRY)

    task = await ports.tasks.get(PROJECT, "a")
    assert task.last_attempt == Attempt(1, event.create_time_ms, 7, 500, Reason.HTTP_STATUS)
    assert (task.attempt_count, task.retry_count, task.repeat_count) == (1, 1, 0)


async def test_cancel_names_the_attempt_that_it_took_and_how_long_it_may_go_on(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    (claim,) = await ports.claim(instance="holder", lease_ms=HOUR_MS)

    cancelled = await ports.tasks.cancel(PROJECT, "a")

    assert (cancelled.token, cancelled.holder) == (claim.token, "holder")
    assert HOUR_MS - 60_000 < cancelled.lease_left_ms <= HOUR_MS
    assert cancelled.task.state is TaskState.CANCELED
    assert cancelled.task.end_time_ms is not None


async def test_cancel_of_a_waiting_task_names_no_attempt(ports: Ports) -> None:
    driven = await drive(ports, TaskState.RETRYING)

    cancelled = await ports.tasks.cancel(PROJECT, driven.task_id)

    assert (cancelled.token, cancelled.holder, cancelled.lease_left_ms) == (None, None, 0)


async def test_a_lease_that_ran_out_leaves_nothing_to_wait_for(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    await lose(ports, "a")

    assert (await ports.tasks.cancel(PROJECT, "a")).lease_left_ms == 0


class TestRenew:
    async def test_a_renewed_lease_is_not_given_back(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        claim = await ports.take("a", LEASE_MS)
        assert await ports.execution.renew([claim.lease], HOUR_MS) == Renewal(held=[claim.lease], lost=[])
        await run_out(ports)

        assert not await ports.claim()

        assert await ports.report(claim.lease, Trigger.COMPLETE)

    async def test_an_expired_lease_can_be_saved_until_somebody_takes_it(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        claim = await lose(ports, "a")

        assert await ports.execution.renew([claim.lease], HOUR_MS) == Renewal(held=[claim.lease], lost=[])

        assert not await ports.claim()

    async def test_lost_leases_are_returned(self, ports: Ports) -> None:
        projects = [PROJECT, *[await ports.create_project(f"project{n:010}") for n in range(1, 5)]]
        leases: list[Lease] = []
        for project in projects:
            await ports.subscribe(spec("held"), spec("cancelled"), spec("reported"), project_id=project)
            claims = await ports.claim(project_id=project)
            by_task = {claim.task_id: claim.lease for claim in claims}
            await ports.tasks.cancel(project, "cancelled")
            await ports.report(by_task["reported"], Trigger.RETRY)
            leases += by_task.values()
        before = ports.raw()

        renewal = await ports.execution.renew(leases, HOUR_MS)

        assert set(renewal.held) == {lease for lease in leases if lease.task_id == "held"}
        assert set(renewal.lost) == {lease for lease in leases if lease.task_id != "held"}
        assert ports.raw().names() == before.names()

    async def test_a_recovered_lease_is_lost_for_its_first_holder_only(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        first = await lose(ports, "a")
        second = await ports.take("a")

        renewal = await ports.execution.renew([first.lease, second.lease], HOUR_MS)

        assert renewal == Renewal(held=[second.lease], lost=[first.lease])


class TestRecovery:
    async def test_the_same_attempt_runs_again_and_uses_up_no_retry(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        lost = await lose(ports, "a")

        again = await ports.take("a")

        assert (again.attempt, again.retry_count) == (lost.attempt, lost.retry_count) == (1, 0)
        assert again.token != lost.token
        assert again.run_start_ms == lost.run_start_ms
        kept = await ports.tasks.timeline(PROJECT, "a", 2, 10)
        assert [(event.type, event.attempt, event.reason) for event in kept.events] == [
            (EventType.RECOVERED, 1, Reason.LEASE_LOST),
            (EventType.DISPATCHED, 1, None),
        ]

    async def test_the_attempt_after_it_is_a_new_one(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        await lose(ports, "a")
        await ports.report((await ports.take("a")).lease, Trigger.RETRY)
        await ports.tasks.run(PROJECT, "a")

        assert (await ports.take("a")).attempt == 2

    async def test_a_start_deadline_does_not_end_a_task_that_has_started(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.SCHEDULED, trigger=Trigger.CLAIM)
        await lose(ports, driven.task_id)

        assert (await ports.take(driven.task_id)).attempt == 1

    async def test_a_paused_one_waits_for_resume_and_then_is_due(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        await ports.take("a", LEASE_MS)
        await ports.tasks.pause(PROJECT, "a")
        await run_out(ports)
        assert not await ports.claim()
        assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.PAUSED

        await ports.tasks.resume(PROJECT, "a")

        assert (await ports.take("a")).attempt == 1

    async def test_many_at_once_come_back_over_several_claims(self, ports: Ports) -> None:
        await ports.subscribe(*(spec(f"t{n}") for n in range(250)))
        # At once, or some would be lost a second time before the last of them is claimed, on a slow machine.
        await ports.claim(250, lease_ms=LEASE_MS)
        await run_out(ports)

        again = [claim.task_id for _ in range(8) for claim in await ports.claim(100, instance="other")]

        assert sorted(again) == sorted(f"t{n}" for n in range(250))

    async def test_no_lease_is_given_back_before_its_end(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        claim = await ports.take("a", 10 * LEASE_MS)
        looks = 0
        while not await ports.claim():
            looks += 1

        assert looks > 0
        dispatched, recovered = (await ports.tasks.timeline(PROJECT, "a", 1, 2)).events
        assert recovered.type is EventType.RECOVERED
        assert recovered.create_time_ms >= dispatched.create_time_ms + 10 * LEASE_MS
        assert claim.attempt == recovered.attempt


class TestPoison:
    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, max_losses=3)])
    async def test_a_task_that_takes_its_worker_down_again_and_again_is_parked(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        for _ in range(3):
            await lose(ports, "a")

        assert not await ports.claim()

        kept = await ports.tasks.timeline(PROJECT, "a", 0, 100)
        assert kept.task.state is TaskState.FAILED
        assert (kept.events[-1].type, kept.events[-1].reason) == (EventType.FAILED, Reason.POISON)
        assert [event.type for event in kept.events].count(EventType.RECOVERED) == 2
        assert await ports.task_in_queue() == 0

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, max_losses=2)])
    async def test_parking_one_does_not_lose_the_others(self, ports: Ports) -> None:
        """Whichever of those whose leases ran out together comes first."""
        await ports.subscribe(*(spec(f"once-{n}") for n in range(3)), *(spec(f"twice-{n}") for n in range(3)))
        once = [
            claim.lease for claim in await ports.claim(lease_ms=LEASE_MS) if claim.task_id.startswith("once")
        ]
        await ports.execution.renew(once, HOUR_MS)
        await run_out(ports)
        assert len(await ports.claim(lease_ms=LEASE_MS)) == 3
        await ports.execution.renew(once, LEASE_MS)
        await run_out(ports)

        again = await ports.claim()

        assert sorted(claim.task_id for claim in again) == ["once-0", "once-1", "once-2"]
        for n in range(3):
            assert (await ports.tasks.get(PROJECT, f"twice-{n}")).state is TaskState.FAILED

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, max_losses=2)])
    async def test_losses_are_counted_per_attempt(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        for _ in range(3):
            await lose(ports, "a")
            await ports.report((await ports.take("a")).lease, Trigger.RETRY)
            await ports.tasks.run(PROJECT, "a")

        assert (await ports.take("a")).attempt == 4
