"""Attempts that were lost twice with their process are tried one at a time: bystanders are not to blame."""

from collections.abc import Sequence
from typing import Any

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import LostAttempt, Renewal, Room
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.keys import partition_of
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from tests.keys import VAULT
from tests.store.ports import HERE, HOUR_MS, PROJECT, Ports, spec

LEASE_MS = 20
MAX_LOSSES = 4


@pytest.fixture
def store_settings() -> StoreSettings:
    return StoreSettings(partitions=4, max_losses=MAX_LOSSES)


async def crash(ports: Ports) -> list[str]:
    """A process claims what it may, and dies with it; return what that was."""
    names = [claim.task_id for claim in await ports.claim(lease_ms=LEASE_MS)]
    await ports.until(await ports.now_ms() + LEASE_MS + 1)
    return names


async def suspects(ports: Ports, *task_ids: str) -> None:
    """Subscribe tasks and lose them together, as often as it takes."""
    await ports.subscribe(*(spec(task_id) for task_id in task_ids))
    for _ in range(2):
        assert sorted(await crash(ports)) == sorted(task_ids)


async def test_one_at_a_time_is_given(ports: Ports) -> None:
    await suspects(ports, "a", "b", "c")

    batches = [await ports.look(lease_ms=HOUR_MS) for _ in range(4)]

    assert [len(batch.claims) for batch in batches] == [1, 1, 1, 0]
    assert [batch.left_suspects for batch in batches] == [True, True, True, False]
    watched = [claim for batch in batches for claim in batch.claims]
    assert sorted(claim.task_id for claim in watched) == ["a", "b", "c"]
    assert {claim.watch_ms for claim in watched} == {2 * HOUR_MS}, "two leases of whoever claims"
    assert {claim.attempt for claim in watched} == {1}


async def test_without_room_for_one_they_are_left_and_nothing_waits_behind_them(ports: Ports) -> None:
    await suspects(ports, "a", "b", "c")
    await ports.subscribe(spec("new"))

    batch = await ports.look(suspects=False)

    assert [(claim.task_id, claim.watch_ms) for claim in batch.claims] == [("new", 0)]
    assert batch.left_suspects
    # Nothing but the end of its lease.
    assert batch.next_due_ms is not None
    assert batch.next_due_ms > await ports.now_ms() + HOUR_MS // 2
    again = await ports.look(suspects=False)
    assert (list(again.claims), again.left_suspects) == ([], True)


async def test_of_several_partitions_one_gives_a_suspect(ports: Ports) -> None:
    other = next(
        name for n in range(99) if partition_of(name := f"project{n:010}", 4) != partition_of(PROJECT, 4)
    )
    await ports.create_project(other)
    partitions = [partition_of(project, 4) for project in (PROJECT, other)]
    for project in (PROJECT, other):
        await ports.subscribe(spec("a"), project_id=project)
    limits = dict.fromkeys(partitions, 10)
    for _ in range(2):
        await ports.execution.claim(limits, HERE, LEASE_MS)
        await ports.until(await ports.now_ms() + LEASE_MS + 1)

    batches = await ports.execution.claim(limits, HERE, HOUR_MS, Room(suspect_from=partitions[1]))

    given = {batch.partition: [claim.project_id for claim in batch.claims] for batch in batches}
    assert given == {partitions[0]: [], partitions[1]: [other]}


async def test_tasks_that_share_a_process_that_crashes_are_not_given_up(ports: Ports) -> None:
    names = [f"t{n}" for n in range(10)]
    await suspects(ports, *names)

    crashed = [await crash(ports) for _ in range(9)]

    assert len({name for (name,) in crashed}) == 9, "one after the other"
    states = {(await ports.tasks.get(PROJECT, name)).state for name in names}
    assert states == {TaskState.SCHEDULED, TaskState.DISPATCHING}


async def test_the_one_that_takes_its_process_down_is_given_up(ports: Ports) -> None:
    """Alone, or beside others that get on with it once it is gone."""
    await ports.subscribe(*(spec(f"t{n}") for n in range(3)), spec("poison"))
    for _ in range(2):
        await crash(ports)
    rounds = 0
    while (batch := await ports.look(lease_ms=LEASE_MS)).claims or batch.recovered:
        rounds += 1
        for claim in batch.claims:
            if claim.task_id != "poison":
                await ports.report(claim.lease, Trigger.COMPLETE)
        await ports.until(await ports.now_ms() + LEASE_MS + 1)

    assert batch.poisoned == [LostAttempt(PROJECT, "poison", 1, Reason.POISON)]
    assert rounds == 3 + MAX_LOSSES - 2
    for n in range(3):
        assert (await ports.tasks.get(PROJECT, f"t{n}")).state is TaskState.COMPLETED


async def test_a_loss_after_the_watch_does_not_count_and_makes_the_next_longer(ports: Ports) -> None:
    await suspects(ports, "a")
    (claim,) = await ports.claim(lease_ms=LEASE_MS)
    assert claim.watch_ms == 2 * LEASE_MS
    while claim.watch_ms < 500:
        until_ms = await ports.now_ms() + claim.watch_ms + 1
        while await ports.now_ms() < until_ms:
            await ports.execution.renew([claim.lease], LEASE_MS)
        assert await ports.execution.renew([claim.lease], LEASE_MS) == Renewal([claim.lease], [])
        await ports.until(await ports.now_ms() + LEASE_MS + 1)
        watched_ms = claim.watch_ms
        (claim,) = await ports.claim(lease_ms=LEASE_MS)
        assert claim.watch_ms > 2 * watched_ms

    # One that comes as late as the one before is within it.
    for _ in range(MAX_LOSSES - 2):
        await ports.until(await ports.now_ms() + LEASE_MS + 1)
        await ports.claim(lease_ms=LEASE_MS)
    assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.FAILED


async def test_an_outcome_makes_it_one_like_any_other(ports: Ports) -> None:
    await suspects(ports, "a", "b")
    for _ in range(2):
        (claim,) = await ports.claim()
        await ports.report(claim.lease, Trigger.RETRY)
    for name in ("a", "b"):
        await ports.tasks.run(PROJECT, name)

    claims = await ports.claim()

    assert [(claim.attempt, claim.watch_ms) for claim in claims] == [(2, 0), (2, 0)]


async def test_commands_find_it_where_it_waits(ports: Ports) -> None:
    await suspects(ports, "canceled", "paused", "run", "resumed")
    assert (
        await ports.look(suspects=False, full=[(PROJECT, VAULT.lane_of("https://target.example"))])
    ).left_suspects
    await ports.tasks.cancel(PROJECT, "canceled")
    await ports.tasks.pause(PROJECT, "paused")
    await ports.tasks.run(PROJECT, "run")
    await ports.tasks.pause(PROJECT, "resumed")
    await ports.tasks.resume(PROJECT, "resumed")

    claims = [claim for _ in range(3) for claim in await ports.claim()]

    assert sorted(claim.task_id for claim in claims) == ["resumed", "run"]


class LosesAnswers(ScriptRunner):
    """The store makes a claim, and its answer does not come."""

    lose = True

    async def run_each(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        answers = await super().run_each(name, calls)
        if name == "claim" and self.lose:
            raise StoreUnavailable("the connection broke")
        return answers


class TestUnanswered:
    """Whoever asked for a claim knows that nothing of it was sent when the answer is lost."""

    async def test_its_tasks_are_due_at_once_and_lose_nothing(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"), spec("b"))
        runner = LosesAnswers(ports.client, ports.settings)
        store = RedisExecutionStore(runner, *ports.execution_parts[1:])
        limits = {partition_of(PROJECT, 4): 10}
        for _ in range(MAX_LOSSES + 1):
            with pytest.raises(StoreUnavailable):
                await store.claim(limits, HERE, HOUR_MS)
        runner.lose = False

        (batch,) = await store.claim(limits, HERE, HOUR_MS)

        assert [(claim.task_id, claim.attempt, claim.watch_ms) for claim in batch.claims] == [
            ("a", 1, 0),
            ("b", 1, 0),
        ]
        assert sorted(batch.recovered, key=lambda lost: lost.task_id) == [
            LostAttempt(PROJECT, name, 1, Reason.HANDED_BACK) for name in ("a", "b")
        ]
        again = (await store.claim(limits, HERE, HOUR_MS))[0]
        assert (again.claims, again.recovered) == ([], []), "it is told of no claim that was answered"

    async def test_what_others_hold_stays_theirs(self, ports: Ports) -> None:
        await ports.subscribe(spec("theirs"))
        theirs = await ports.take("theirs")
        runner = LosesAnswers(ports.client, ports.settings)
        store = RedisExecutionStore(runner, *ports.execution_parts[1:])
        limits = {partition_of(PROJECT, 4): 10}
        with pytest.raises(StoreUnavailable):
            await store.claim(limits, HERE, HOUR_MS)
        runner.lose = False

        (batch,) = await store.claim(limits, HERE, HOUR_MS)

        assert (batch.claims, batch.recovered, batch.poisoned, batch.expired) == ([], [], [], 0)
        assert await ports.report(theirs.lease, Trigger.COMPLETE)
