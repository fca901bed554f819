"""A process watches one suspect at a time, of all partitions, and what is no suspect does not wait for it."""

import pytest

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.store.keys import partition_of
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import instance, process, running, soon
from tests.store.ports import PROJECT, Ports, spec

LEASE_MS = 200
_NAMES = (f"project{n:010}" for n in range(1, 99))
OTHER = next(name for name in _NAMES if partition_of(name, 4) != partition_of(PROJECT, 4))
PROJECTS = (PROJECT, OTHER)


@pytest.fixture
def store_settings() -> StoreSettings:
    return StoreSettings(partitions=4)


async def lose_twice(ports: Ports, *task_ids: str) -> None:
    """Subscribe tasks to two projects, and lose them with the process that has them."""
    await ports.create_project(OTHER)
    for project in PROJECTS:
        await ports.subscribe(*(spec(task_id) for task_id in task_ids), project_id=project)
    for _ in range(2):
        for project in PROJECTS:
            claims = await ports.claim(lease_ms=LEASE_MS, project_id=project)
            assert len(claims) == len(task_ids)
        await ports.until(await ports.now_ms() + LEASE_MS + 1)


async def test_the_next_starts_when_one_has_ended(ports: Ports) -> None:
    await lose_twice(ports, "a", "b")
    async with instance(ports) as here, running(here.scheduler.run(), here.reporter.run()):
        for project in PROJECTS:
            here.scheduler.wake(partition_of(project, 4), 0)
        for _ in range(4):
            delivery = await here.dispatcher.started()
            assert (here.attempts.in_flight, here.attempts.suspects.busy) == (1, True)
            here.dispatcher.answer(delivery.task_id)
        await soon(here.attempts.drained())
    for project in PROJECTS:
        for name in ("a", "b"):
            assert (await ports.tasks.get(project, name)).state is TaskState.COMPLETED


async def test_others_do_not_wait_for_it(ports: Ports) -> None:
    await lose_twice(ports, "a")
    async with process(ports) as here:
        await here.dispatcher.started()
        for project in PROJECTS:
            await ports.subscribe(spec("new"), project_id=project)

        assert [(await here.dispatcher.started()).task_id for _ in PROJECTS] == ["new", "new"]
        assert here.attempts.in_flight == 3, "the other suspect waits"


async def test_the_next_starts_when_one_was_watched_for_long_enough(ports: Ports) -> None:
    """A target that hangs holds up nobody for longer."""
    await lose_twice(ports, "a")
    async with (
        instance(ports, lease_ms=LEASE_MS) as here,
        running(here.scheduler.run(), here.reporter.run(), here.keeper.run()),
    ):
        for project in PROJECTS:
            here.scheduler.wake(partition_of(project, 4), 0)

        started = [(await here.dispatcher.started()).project_id for _ in PROJECTS]

        assert sorted(started) == sorted(PROJECTS)
        assert here.attempts.in_flight == 2
