"""A call that is made again with the very same arguments changes nothing and answers the same.

That is what a client library does when the answer was lost after the script had committed.
"""

import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import (
    Cancelled,
    ClaimBatch,
    Credential,
    EndStep,
    LostAttempt,
    NewTask,
    Renewal,
    Rotation,
    TaskFilter,
)
from kuueri_grpc.store.settings import StoreSettings
from tests.store.drive import REPORTS, Driven, drive
from tests.store.ports import HOUR_MS, PROJECT, Ports, report, spec
from tests.store.test_transitions import SITUATIONS
from tests.store.twice import Twice, same

Call = Callable[[Ports, Driven], Awaitable[object]]


FIRST_KEY = f"{PROJECT}key1"


@pytest.fixture
def twice(ports: Ports) -> Twice:
    return Twice(ports)


async def assert_same(twice: Twice, call: Callable[[], Awaitable[object]]) -> object:
    first, again, between, after = await twice.both(call)
    if isinstance(first, ClaimBatch) and isinstance(again, ClaimBatch):
        # Where the next one may begin is no part of what was done.
        again = dataclasses.replace(again, passed=first.passed)
    assert same(first, again), f"answered {first!r}, and then {again!r}"
    assert after.databases == between.databases
    return first


COMMANDS: dict[str, Call] = {
    "pause": lambda ports, task: ports.tasks.pause(PROJECT, task.task_id),
    "resume": lambda ports, task: ports.tasks.resume(PROJECT, task.task_id),
    "run": lambda ports, task: ports.tasks.run(PROJECT, task.task_id),
    "purge": lambda ports, task: ports.tasks.purge(PROJECT, task.task_id),
    "get": lambda ports, task: ports.tasks.get(PROJECT, task.task_id),
    "timeline": lambda ports, task: ports.tasks.timeline(PROJECT, task.task_id, 0, 100),
    "feed": lambda ports, task: ports.tasks.feed(PROJECT, 0, 100),
    "list": lambda ports, task: ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, None),
    "peek": lambda ports, task: ports.execution.next_due(),
    "sweep": lambda ports, task: ports.execution.sweep(),
    **{
        f"report {trigger}": lambda ports, task, trigger=trigger: ports.execution.report(  # type: ignore[misc]
            [report(task.lease, trigger)]
        )
        for trigger in sorted(REPORTS)
    },
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("state", "origin"), SITUATIONS, ids=lambda value: value or "")
async def test_every_command_in_every_state(
    twice: Twice, state: TaskState, origin: TaskState | None, command: str
) -> None:
    driven = await drive(twice.ports, state, origin)

    await assert_same(twice, lambda: COMMANDS[command](twice.ports, driven))


@pytest.mark.parametrize("trigger", sorted(REPORTS))
async def test_a_report_on_a_held_task(twice: Twice, trigger: Trigger) -> None:
    driven = await drive(twice.ports, TaskState.DISPATCHING)
    await twice.ports.tasks.pause(PROJECT, driven.task_id)

    answer = await assert_same(twice, lambda: twice.ports.execution.report([report(driven.lease, trigger)]))

    assert answer == [True]


@pytest.mark.parametrize(("state", "origin"), SITUATIONS, ids=lambda value: value or "")
async def test_cancel(twice: Twice, state: TaskState, origin: TaskState | None) -> None:
    driven = await drive(twice.ports, state, origin)

    first, again, between, after = await twice.both(lambda: twice.ports.tasks.cancel(PROJECT, driven.task_id))

    if isinstance(first, Cancelled) and isinstance(again, Cancelled):
        # The lease that was taken away has less and less to go.
        assert first.lease_left_ms >= again.lease_left_ms
        assert (first.lease_left_ms > 0) == (state in (TaskState.DISPATCHING, TaskState.CANCELED))
        again = dataclasses.replace(again, lease_left_ms=first.lease_left_ms)
    assert same(first, again)
    assert after.databases == between.databases


class TestSubscribe:
    async def test_all_kinds_of_results(self, twice: Twice) -> None:
        ports = twice.ports
        await ports.subscribe(spec("taken"), spec("other"))
        await ports.try_subscribe(NewTask(spec("kept"), request_id="old", fingerprint="f"))
        batch = [
            NewTask(spec("a", labels={"k": "v"}, schedule=Schedule(delay_ms=HOUR_MS, start_deadline_ms=5))),
            NewTask(spec("taken")),
            NewTask(spec("a")),
            NewTask(spec("b"), request_id="new", fingerprint="f"),
            NewTask(spec("c"), request_id="new", fingerprint="f"),
            NewTask(spec("d"), request_id="new", fingerprint="g"),
            NewTask(spec("e"), request_id="old", fingerprint="f"),
            NewTask(spec("f")),
            NewTask(spec("g")),
        ]

        answer = await assert_same(twice, lambda: ports.try_subscribe(*batch, limit=6))

        assert isinstance(answer, list)
        assert [type(result).__name__ for result in answer] == [
            *("Task", "TaskExists", "TaskExists", "Task", "Task", "RequestIdReused", "Task", "Task"),
            "QuotaExceeded",
        ]

    async def test_a_large_batch(self, twice: Twice) -> None:
        batch = [NewTask(spec(f"t{n % 240}")) for n in range(250)]

        await assert_same(twice, lambda: twice.ports.try_subscribe(*batch))

        assert await twice.ports.task_in_queue() == 240

    @pytest.mark.parametrize("meanwhile", [Trigger.CLAIM, Trigger.RUN, Trigger.PAUSE, Trigger.CANCEL])
    async def test_when_the_task_has_moved_on_before_the_second_call(
        self, twice: Twice, ports: Ports, meanwhile: Trigger
    ) -> None:
        first = await twice.first(lambda: twice.ports.try_subscribe(NewTask(spec("a"))))
        if meanwhile is Trigger.CLAIM:
            await ports.take("a")
        else:
            await getattr(ports.tasks, meanwhile.lower())(PROJECT, "a")
        before = ports.raw()

        again = await twice.again(lambda: twice.ports.try_subscribe(NewTask(spec("a"))))

        assert isinstance(first, list)
        assert isinstance(again, list)
        assert again == [await ports.tasks.get(PROJECT, "a")]
        assert ports.raw().databases == before.databases


class TestClaim:
    async def test_it_gives_the_same_tasks(self, twice: Twice) -> None:
        await twice.ports.subscribe(
            *(spec(f"t{n}", queue=f"q{n % 3}", schedule=Schedule(at_ms=1_000 - n)) for n in range(12))
        )

        answer = await assert_same(twice, lambda: twice.ports.look(limit=9))

        assert isinstance(answer, ClaimBatch)
        assert len(answer.claims) == 9

    @pytest.mark.parametrize("state", [TaskState.SCHEDULED, TaskState.RETRYING, TaskState.REPEATING])
    async def test_whatever_the_task_waited_for(self, twice: Twice, state: TaskState) -> None:
        await drive(twice.ports, state, trigger=Trigger.CLAIM)

        answer = await assert_same(twice, twice.ports.look)

        assert isinstance(answer, ClaimBatch)
        assert len(answer.claims) == 1

    async def test_expiring_tasks_is_done_once(self, twice: Twice) -> None:
        late = Schedule(at_ms=1_000, start_deadline_ms=1)
        await twice.ports.subscribe(spec("late", schedule=late), spec("due"))

        answer = await assert_same(twice, twice.ports.look)

        assert isinstance(answer, ClaimBatch)
        assert ([claim.task_id for claim in answer.claims], answer.expired) == (["due"], 1)

    async def test_recovering_tasks_is_done_once(self, twice: Twice) -> None:
        await twice.ports.subscribe(spec("a"))
        await twice.ports.take("a", lease_ms=1)
        await twice.ports.until(await twice.ports.now_ms() + 2)

        answer = await assert_same(twice, twice.ports.look)

        assert isinstance(answer, ClaimBatch)
        assert [claim.attempt for claim in answer.claims] == [1]
        assert answer.recovered == [LostAttempt(PROJECT, "a", 1, Reason.LEASE_LOST)]

    @pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, max_losses=1)])
    async def test_parking_tasks_is_done_once(self, twice: Twice) -> None:
        await twice.ports.subscribe(spec("a"))
        await twice.ports.take("a", lease_ms=1)
        await twice.ports.until(await twice.ports.now_ms() + 2)

        answer = await assert_same(twice, twice.ports.look)

        assert isinstance(answer, ClaimBatch)
        assert (answer.claims, answer.poisoned) == ([], [LostAttempt(PROJECT, "a", 1, Reason.POISON)])
        assert (await twice.ports.tasks.get(PROJECT, "a")).state is TaskState.FAILED

    async def test_what_has_become_due_since_is_left_for_the_next_claim(
        self, twice: Twice, ports: Ports
    ) -> None:
        await ports.subscribe(spec("a"))
        first = await twice.first(twice.ports.claim)
        await ports.subscribe(spec("b"))

        again = await twice.again(twice.ports.claim)

        assert again == first
        assert [claim.task_id for claim in await ports.claim()] == ["b"]

    async def test_what_was_cancelled_since_is_not_given_again(self, twice: Twice, ports: Ports) -> None:
        await ports.subscribe(spec("a"), spec("b"))
        await twice.first(twice.ports.claim)
        await ports.tasks.cancel(PROJECT, "a")

        again = await twice.again(twice.ports.claim)

        assert isinstance(again, list)
        assert [claim.task_id for claim in again] == ["b"]


async def test_release(twice: Twice) -> None:
    driven = await drive(twice.ports, TaskState.DISPATCHING)
    leases = [driven.lease, dataclasses.replace(driven.lease, token="lost")]

    first, again, between, after = await twice.both(lambda: twice.ports.execution.release(leases))

    assert (first, again) == ([True, False], [False, False])
    assert after.databases == between.databases


async def test_renew_only_extends(twice: Twice) -> None:
    driven = await drive(twice.ports, TaskState.DISPATCHING)
    lost = dataclasses.replace(driven.lease, token="lost")

    first, again, between, after = await twice.both(
        lambda: twice.ports.execution.renew([driven.lease, lost], HOUR_MS)
    )

    assert first == again == Renewal(held=[driven.lease], lost=[lost])
    changed = {
        key for db, key in sorted(after.names()) if between.databases[db].get(key) != after.databases[db][key]
    }
    assert all(key.endswith(":leases") for key in changed)


@pytest.mark.parametrize("trigger", [Trigger.RETRY, Trigger.REPEAT])
async def test_a_report_that_comes_again_when_the_next_attempt_runs(
    twice: Twice, ports: Ports, trigger: Trigger
) -> None:
    driven = await drive(ports, TaskState.DISPATCHING)
    first = await twice.first(lambda: twice.ports.report(driven.lease, trigger))
    await ports.tasks.run(PROJECT, driven.task_id)
    await ports.take(driven.task_id)
    before = ports.raw()

    again = await twice.again(lambda: twice.ports.report(driven.lease, trigger))

    assert (first, again) == (True, True)
    assert ports.raw().databases == before.databases


async def test_a_run_that_comes_again_when_the_task_has_ended(twice: Twice, ports: Ports) -> None:
    await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    await twice.first(lambda: twice.ports.tasks.run(PROJECT, "a"))
    await ports.report((await ports.take("a")).lease, Trigger.COMPLETE)

    again = await twice.again(lambda: twice.ports.tasks.run(PROJECT, "a"))

    assert again == await ports.tasks.get(PROJECT, "a")


async def test_a_purge_that_comes_again_spares_a_new_task_of_that_id(twice: Twice, ports: Ports) -> None:
    await drive(ports, TaskState.COMPLETED)
    await ports.subscribe(spec("a"))
    await ports.tasks.pause(PROJECT, "a")
    await twice.first(lambda: twice.ports.tasks.purge(PROJECT, "a"))
    await ports.subscribe(spec("a"))
    await ports.tasks.pause(PROJECT, "a")
    before = ports.raw()

    assert await twice.again(lambda: twice.ports.tasks.purge(PROJECT, "a")) is None

    assert ports.raw().databases == before.databases


class TestProjects:
    async def test_create(self, twice: Twice) -> None:
        projects = twice.ports.projects

        await assert_same(twice, lambda: projects.create("a@b.c", "k", b"d", "whsec_s", "project1111111111"))

    async def test_create_for_a_repeated_call(self, twice: Twice) -> None:
        projects = twice.ports.projects
        await projects.create("a@b.c", "k", b"d", "whsec_s", "project1111111111", "request")

        await assert_same(
            twice, lambda: projects.create("a@b.c", "l", b"e", "whsec_t", "project1111111111", "request")
        )

    @pytest.mark.parametrize("grace_ms", [0, HOUR_MS])
    async def test_rotate_the_token(self, twice: Twice, grace_ms: int) -> None:
        projects = twice.ports.projects

        rotation = Rotation(PROJECT, FIRST_KEY, "new", b"d", grace_ms)
        await assert_same(twice, lambda: projects.rotate_token(rotation))

    async def test_add_a_credential(self, twice: Twice) -> None:
        projects, credential = twice.ports.projects, Credential(PROJECT, "new", b"d", Scope.READ, "name")

        await assert_same(twice, lambda: projects.add_credential(credential, HOUR_MS))

    async def test_close(self, twice: Twice) -> None:
        await assert_same(twice, lambda: twice.ports.projects.close(PROJECT))

    async def test_end_tasks(self, twice: Twice) -> None:
        ports = twice.ports
        await ports.subscribe(spec("a"), spec("b", schedule=Schedule(delay_ms=HOUR_MS)))
        await ports.take("a")
        await ports.projects.close(PROJECT)

        first, again, between, after = await twice.both(lambda: ports.projects.end_tasks(PROJECT, None))

        assert isinstance(first, EndStep)
        assert isinstance(again, EndStep)
        # The lease that was taken away has less and less to go.
        assert [one.lease for one in first.revoked] == [one.lease for one in again.revoked] != []
        assert after.databases == between.databases

    async def test_erase_tasks_and_drop(self, twice: Twice) -> None:
        ports = twice.ports
        await ports.subscribe(spec("a"))
        await ports.projects.close(PROJECT)
        await ports.projects.end_tasks(PROJECT, None)

        await assert_same(twice, lambda: ports.projects.erase_tasks(PROJECT))
        await assert_same(twice, lambda: ports.projects.forget_requests(PROJECT))
        await assert_same(twice, lambda: ports.projects.drop(PROJECT))

    async def test_rotate_the_signing_secret(self, twice: Twice) -> None:
        projects = twice.ports.projects

        await assert_same(twice, lambda: projects.rotate_signing_secret(PROJECT, "whsec_new", HOUR_MS))
