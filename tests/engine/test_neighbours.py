"""What one project or target takes of a process leaves others their tasks on time; nobody wakes by hand."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.ports import ANY_ROOM, ClaimBatch, Delivery, NotStarted, Room
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import Instance, ScriptedDispatcher, process, soon
from tests.store.ports import PROJECT, SUCCESS, Ports

OTHER = "project1111111111"
QUICK = "https://quick.example/hook"


@pytest.fixture
def store_settings() -> StoreSettings:
    return StoreSettings(partitions=1)


@pytest.fixture(autouse=True)
async def two_projects(ports: Ports) -> None:
    await ports.create_project(OTHER)


class HangingHosts(ScriptedDispatcher):
    """Each host but the quick one takes so many requests and never answers; further ones wait."""

    def __init__(self, each: int) -> None:
        super().__init__()
        self._each = each
        self._turns: dict[str, asyncio.Semaphore] = {}

    async def send(self, delivery: Delivery, may_start: Callable[[], bool]) -> Outcome:
        url = delivery.target.url
        if url == QUICK:
            if not may_start():
                raise NotStarted
            self.sent.append(delivery)
            self._started.put_nowait(delivery)
            return SUCCESS
        async with self._turns.setdefault(url, asyncio.Semaphore(self._each)):
            return await super().send(delivery, may_start)


class Quiet(RedisExecutionStore):
    """The real store; it knows when nothing more is claimed for a while, because there is no room."""

    claims = 0

    async def claim(
        self, limits: Mapping[int, int], instance: str, lease_ms: int, room: Room = ANY_ROOM
    ) -> list[ClaimBatch]:
        self.claims += 1
        return await super().claim(limits, instance, lease_ms, room)

    async def rests(self, ports: Ports) -> None:
        """Return when no claim was made for some time: the scheduler sleeps."""
        before = -1
        while before != self.claims:
            before = self.claims
            await ports.until(await ports.now_ms() + 50)


def to(host: str, task_id: str, **more: object) -> TaskSpec:
    return TaskSpec(task_id, HttpTarget(f"https://{host}.example/hook"), **more)  # type: ignore[arg-type]


async def hanging(ports: Ports, here: Instance, tasks: int, hosts: int = 1) -> None:
    """Give one project more tasks for hosts that hang than there is room for; the first has started."""
    await ports.subscribe(*(to(f"slow-{n * hosts // tasks}", f"slow-{n}") for n in range(tasks)))
    await here.dispatcher.started()


async def quick_one_starts(here: Instance, task_id: str) -> None:
    while (await here.dispatcher.started()).task_id != task_id:
        pass


@pytest.mark.parametrize("project", [PROJECT, OTHER])
async def test_a_full_target_holds_up_no_task_for_another(ports: Ports, project: str) -> None:
    store = Quiet(*ports.execution_parts)
    async with process(ports, max_in_flight=32, execution=store, dispatcher=HangingHosts(2)) as here:
        await hanging(ports, here, 60)
        await soon(store.rests(ports))
        assert here.attempts.lanes.full

        for n in range(3):
            await ports.subscribe(TaskSpec(f"quick-{n}", HttpTarget(QUICK)), project_id=project)
            await quick_one_starts(here, f"quick-{n}")


async def test_a_project_whose_hosts_all_hang_leaves_slots_to_others(ports: Ports) -> None:
    store = Quiet(*ports.execution_parts)
    async with process(ports, max_in_flight=20, execution=store, dispatcher=HangingHosts(10)) as here:
        await hanging(ports, here, 80, hosts=4)
        await soon(store.rests(ports))
        assert 0 < here.attempts.free_slots <= 4
        claims = store.claims

        await ports.subscribe(TaskSpec("quick", HttpTarget(QUICK)), project_id=OTHER)
        await quick_one_starts(here, "quick")
        await soon(store.rests(ports))
        assert store.claims < claims + 5, "nothing is asked for again and again"

        # Its own tasks go on as soon as some of them end.
        sent = {delivery.task_id for delivery in here.dispatcher.sent}
        here.dispatcher.answer(next(iter(name for name in sent if name.startswith("slow"))))
        assert (await here.dispatcher.started()).task_id not in sent


async def test_nor_does_one_whose_tasks_wait_for_their_turn(ports: Ports) -> None:
    store = Quiet(*ports.execution_parts)
    async with process(ports, max_in_flight=20, execution=store, dispatcher=HangingHosts(1)) as here:
        await hanging(ports, here, 200, hosts=15)
        await soon(store.rests(ports))
        assert here.attempts.free_slots > 0

        await ports.subscribe(TaskSpec("quick", HttpTarget(QUICK)), project_id=OTHER)
        await quick_one_starts(here, "quick")


async def test_nor_one_with_large_requests(ports: Ports) -> None:
    store, size = Quiet(*ports.execution_parts), 100_000
    dispatcher = HangingHosts(100)
    async with process(
        ports, max_in_flight=100, max_bytes=20 * size, execution=store, dispatcher=dispatcher
    ) as here:
        target = HttpTarget("https://slow.example/hook", body=b"x" * size)
        await ports.subscribe(*(TaskSpec(f"large-{n}", target) for n in range(50)))
        await here.dispatcher.started()
        await soon(store.rests(ports))
        assert 10 <= here.attempts.in_flight < 20
        assert here.attempts.shares.free.size > 0

        await ports.subscribe(TaskSpec("quick", HttpTarget(QUICK)), project_id=OTHER)
        await quick_one_starts(here, "quick")
        here.dispatcher.answer_all()
        while here.attempts.in_flight or await ports.task_in_queue():
            for name in [*dispatcher.in_flight]:
                here.dispatcher.answer(name)
            await ports.until(await ports.now_ms() + 1)


async def test_a_start_deadline_passes_where_there_is_no_slot(ports: Ports) -> None:
    async with process(ports, max_in_flight=1, dispatcher=HangingHosts(1)) as here:
        await hanging(ports, here, 1)
        assert here.attempts.free_slots == 0
        late = Schedule(start_deadline_ms=100)
        await ports.subscribe(TaskSpec("late", HttpTarget(QUICK), schedule=late), project_id=OTHER)

        async def expires() -> None:
            while (await ports.tasks.get(OTHER, "late")).state is not TaskState.EXPIRED:
                await ports.until(await ports.now_ms() + 5)

        await soon(expires())
        assert here.attempts.free_slots == 0
