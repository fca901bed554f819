"""Deleting a project: nothing starts any more, nothing is left, and a crash half-way changes nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.errors import ProjectNotFound, StoreUnavailable
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.engine import deletion
from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.ports import NewTask
from kuueri_grpc.store import keys
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import Instance, instance, process, soon
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

#: With a deadline: such tasks are in one more index.
LATER = Schedule(delay_ms=HOUR_MS, start_deadline_ms=HOUR_MS)
BYSTANDER = "project1111111111"
#: Of `filled`.
TASKS = 260


@pytest.fixture
async def filled(ports: Ports) -> Ports:
    """A project with tasks in every state and all that comes with them; a bystander in the same partition."""
    await ports.create_project(BYSTANDER)
    for project in (PROJECT, BYSTANDER):
        await ports.try_subscribe(
            *(NewTask(spec(f"t{n}", queue=f"q{n % 3}", schedule=LATER)) for n in range(240)),
            project_id=project,
        )
        await ports.try_subscribe(
            *(NewTask(spec(f"due{n}"), request_id=f"r{n}", fingerprint="f") for n in range(20)),
            project_id=project,
        )
        claims = await ports.claim(10, project_id=project)
        outcomes = (Trigger.COMPLETE, Trigger.FAIL, Trigger.RETRY, Trigger.REPEAT)
        for claim, trigger in zip(claims, outcomes, strict=False):
            await ports.report(claim.lease, trigger)
        await ports.tasks.pause(project, "t0")
        await ports.tasks.cancel(project, "t1")
        await ports.tasks.pause(project, "t2")
        await ports.tasks.purge(project, "t2")
    return ports


async def left(ports: Ports, project_id: str = PROJECT) -> set[tuple[int, str]]:
    return ports.raw().names_with(project_id)


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=1)])
class TestNothingIsLeft:
    async def test_of_it_and_all_of_others(self, filled: Ports, projects: Projects) -> None:
        before = {(db, key) for db, key in await left(filled, BYSTANDER) if PROJECT not in key}
        bystander_in_queue = await filled.task_in_queue(BYSTANDER)

        await projects.delete(PROJECT)

        assert not await left(filled)
        assert await left(filled, BYSTANDER) == before
        assert await filled.task_in_queue(BYSTANDER) == bystander_in_queue > 200
        with pytest.raises(ProjectNotFound):
            await projects.delete(PROJECT)

    async def test_its_address_is_free(self, filled: Ports, projects: Projects) -> None:
        await projects.delete(PROJECT)

        again = await projects.register(f"{PROJECT}@EXAMPLE.com")
        assert again.project.task_in_queue == 0

    async def test_an_address_that_another_project_has_by_then_stays(
        self, filled: Ports, projects: Projects
    ) -> None:
        """Two deleters: one is through, and the address is taken again when the other gets there."""
        await filled.projects.close(PROJECT)
        assert await projects.finish_deletions()
        again = await projects.register(f"{PROJECT}@example.com")

        await filled.projects.drop(PROJECT)

        assert (await projects.get(again.project.project_id)).email == f"{PROJECT}@example.com"
        assert any(":email:" in name for _, name in await left(filled, again.project.project_id))

    @pytest.mark.parametrize("calls", range(1, 16))
    async def test_wherever_it_broke_off(
        self, filled: Ports, alone: Instance, projects: Projects, calls: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that dies after so many calls to the store; another one goes on, a minute later."""
        monkeypatch.setattr(deletion, "_CLAIM_MS", 1)

        class Dying(RedisProjectStore):
            calls_left = calls

            async def _step(self) -> None:
                if not self.calls_left:
                    raise StoreUnavailable("died")
                self.calls_left -= 1

            async def end_tasks(self, project_id, cursor):  # type: ignore[no-untyped-def]
                await self._step()
                return await super().end_tasks(project_id, cursor)

            async def erase_tasks(self, project_id):  # type: ignore[no-untyped-def]
                await self._step()
                return await super().erase_tasks(project_id)

            async def forget_requests(self, project_id):  # type: ignore[no-untyped-def]
                await self._step()
                return await super().forget_requests(project_id)

            async def drop(self, project_id):  # type: ignore[no-untyped-def]
                await self._step()
                await super().drop(project_id)

        dying = Dying(*filled.project_parts)
        doomed = Projects(dying, alone.authenticator, alone.revocations)
        try:
            await doomed.delete(PROJECT)
        except StoreUnavailable:
            assert await left(filled)

        await projects.finish_deletions()

        assert not await left(filled)

    async def test_two_at_a_time(self, filled: Ports, projects: Projects) -> None:
        await filled.projects.close(PROJECT)

        await asyncio.gather(*(projects.finish_deletions() for _ in range(4)))

        assert not await left(filled)

    async def test_what_a_damaged_record_belongs_to(self, filled: Ports, projects: Projects) -> None:
        """A task in flight without queue and number of events, and one that is no hash."""
        in_flight = await filled.claim(2)
        damaged = [f"{{0}}:task:{PROJECT}/{claim.task_id}" for claim in in_flight]
        script = (
            "redis.call('HDEL', KEYS[1], 'seq', 'queue') "
            "redis.call('DEL', KEYS[2]) redis.call('SET', KEYS[2], 'no hash')"
        )
        await filled.run_in(keys.EXECUTION, script, damaged)
        await filled.subscribe(*(spec(f"more{n}") for n in range(3)))

        await soon(projects.delete(PROJECT))

        assert not await left(filled)


class TestOneProcess:
    """Others leave a project to the process that deletes it."""

    @pytest.fixture
    async def elsewhere(self, ports: Ports, alone: Instance) -> RedisProjectStore:
        """The store as another process has it, which has begun to delete the project."""
        store = RedisProjectStore(*ports.project_parts)
        await ports.projects.close(PROJECT)
        assert await store.claim_deletion(PROJECT, HOUR_MS)
        return store

    async def test_is_at_it(self, ports: Ports, projects: Projects, elsewhere: RedisProjectStore) -> None:
        before = await left(ports)

        assert not await projects.finish_deletions(), "it is to be looked at again soon"

        assert await left(ports) == before
        assert await elsewhere.claim_deletion(PROJECT, 1)
        while not await ports.projects.claim_deletion(PROJECT, 1):
            pass  # until the claim has ended, as it does where its process has died

    async def test_is_waited_for_by_a_caller(
        self, ports: Ports, alone: Instance, projects: Projects, elsewhere: RedisProjectStore
    ) -> None:
        await ports.projects.close(PROJECT)
        deleting = asyncio.create_task(projects.delete(PROJECT))
        while not deleting.done() and ports.raw().names_with(PROJECT):
            await Projects(elsewhere, alone.authenticator, alone.revocations).finish_deletions()

        await soon(deleting)

        assert not await left(ports)

    async def test_of_a_project_that_is_gone_there_is_none(self, ports: Ports, projects: Projects) -> None:
        await projects.delete(PROJECT)

        with pytest.raises(ProjectNotFound):
            await ports.projects.claim_deletion(PROJECT, HOUR_MS)


@pytest.mark.one_server("reads what one server counts")
@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=1)])
async def test_what_others_have_costs_nothing(ports: Ports, projects: Projects) -> None:
    """The store is not searched: the same commands, however many keys there are beside."""
    counts = []
    for name, others in (("project2222222222", 1), ("project3333333333", 3_000)):
        await ports.subscribe(*(spec(f"{others}-{n}", schedule=LATER) for n in range(others)))
        await ports.create_project(name)
        await ports.try_subscribe(NewTask(spec("a"), request_id="r", fingerprint="f"), project_id=name)
        await ports.everywhere("CONFIG", "RESETSTAT")
        await projects.delete(name)
        stats = await ports.client.info("commandstats")
        counts.append({command: stat["calls"] for command, stat in stats.items()})
        assert not await left(ports, name)

    assert counts[0] == counts[1]
    assert "cmdstat_scan" not in counts[0]


async def test_the_log_says_how_far_it_is(
    ports: Ports, projects: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deletion, "_LOG_S", -1.0)
    caplog.set_level("INFO")
    await ports.subscribe(*(spec(f"t{n}", schedule=LATER) for n in range(120)))

    await projects.delete(PROJECT)

    told = [vars(record) for record in caplog.records if vars(record).get("event") == "project_deletion"]
    # The last step of the first phase, and that of the second, find nothing.
    assert [(one["removed"], one.get("left")) for one in told] == [
        (50, 70), (100, 20), (120, 0), (120, 0), (120, None)
    ]  # fmt: skip
    assert {one["project"] for one in told} == {PROJECT}


class TestRequestIds:
    """How those of a project are found: by lists of their names, one for each span of time."""

    async def test_the_lists_end_with_what_they_name(self, ports: Ports) -> None:
        await ports.try_subscribe(*(NewTask(spec(f"t{n}"), request_id=f"r{n}") for n in range(3)))

        (listed,) = (
            entry for key, entry in ports.raw().databases[1].items() if f":request:{PROJECT}/~~" in key
        )

        assert listed.items == (b"r0", b"r1", b"r2")
        day_ms, span_ms = 86_400_000, 4 * HOUR_MS
        assert listed.expires_ms is not None
        assert listed.expires_ms >= await ports.now_ms() + day_ms - 1_000
        assert listed.expires_ms <= await ports.now_ms() + day_ms + span_ms

    async def test_of_all_spans_that_may_be_there(self, ports: Ports, projects: Projects) -> None:
        await ports.try_subscribe(NewTask(spec("a"), request_id="r"))
        partition = keys.partition_of(PROJECT, ports.settings.partitions)
        stem = f"{{{partition}}}:request:{PROJECT}/"
        script = (
            "redis.call('SELECT', 1) redis.call('RENAME', KEYS[1], KEYS[2]) "
            "redis.call('PEXPIRE', KEYS[2], 14400000)"
        )
        now_ms = await ports.now_ms()
        (listed,) = (key for _, key in ports.raw().names_with(f"{stem}~~"))
        # As old as one can be: its span began 28 hours ago, and its last names are of 24 hours ago.
        await ports.client.eval(script, 2, listed, f"{stem}~~{now_ms // (4 * HOUR_MS) - 7}")

        await projects.delete(PROJECT)

        assert not await left(ports)


class TestClosed:
    async def test_takes_no_task(self, ports: Ports) -> None:
        await ports.projects.close(PROJECT)

        (result,) = await ports.try_subscribe(NewTask(spec("a")))

        assert isinstance(result, ProjectNotFound)
        assert await ports.projects.closed() == [PROJECT]

    async def test_is_not_found(self, ports: Ports) -> None:
        await ports.projects.close(PROJECT)

        for call in (
            ports.projects.get(PROJECT),
            ports.projects.credentials(PROJECT),
            ports.projects.rotate_signing_secret(PROJECT, "whsec_new", 0),
            ports.projects.remove_credential(PROJECT, f"{PROJECT}key1"),
        ):
            with pytest.raises(ProjectNotFound):
                await call
        assert await ports.projects.credential(PROJECT, f"{PROJECT}key1") is None


@pytest.fixture
async def there(ports: Ports) -> AsyncIterator[Instance]:
    """Another server process, all of whose loops run."""
    async with process(ports, "there") as there:
        yield there


class TestAttemptsInFlight:
    async def test_are_aborted_where_they_run(self, ports: Ports, there: Instance) -> None:
        async with process(ports, "here") as here:
            await ports.subscribe(*(spec(f"t{n}") for n in range(5)))
            for _ in range(5):
                await first(here, there)

            await soon(here.projects.delete(PROJECT))

            aborted = here.dispatcher.aborted + there.dispatcher.aborted
            assert sorted(delivery.task_id for delivery in aborted) == [f"t{n}" for n in range(5)]
        assert not await left(ports)

    async def test_of_a_holder_that_is_gone_are_waited_for(self, ports: Ports, alone: Instance) -> None:
        """Nobody answers: their leases must have run out."""
        await ports.subscribe(spec("a"))
        await ports.claim(instance="gone", lease_ms=400)
        lease_ends_ms = (await ports.execution.next_due()).popitem()[1]

        await alone.projects.delete(PROJECT)

        assert await ports.now_ms() >= lease_ends_ms

    async def test_whose_claim_is_still_under_way_never_start(self, ports: Ports) -> None:
        async with instance(ports, "here") as here:
            await ports.subscribe(spec("a"))
            with here.revocations.claiming():
                (claim,) = await ports.claim(instance="here")
                await here.projects.delete(PROJECT)

                assert here.revocations.revoked(claim.lease)


async def first(*instances: Instance) -> None:
    """Wait until one of the instances has sent a request."""
    waiting = [asyncio.create_task(one.dispatcher.started()) for one in instances]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
