"""File descriptors run short: attempts wait for one, no loop ends, and no task is told of it."""

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, connected, post, register, state_name, types
from tests.acceptance.targets import OK, Answer, Exchange, Target, listening
from tests.service.idle import idling
from tests.supervision.calls import persistent
from tests.supervision.processes import serving

pytestmark = pytest.mark.timeout(240)

PORTS = 8
BATCH = 100


@pytest.fixture(autouse=True)
def _room_for_targets() -> Iterator[None]:
    """The targets of this process take a descriptor per connection, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def after_s(seconds: float) -> Answer:
    """Answer some time after the request."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await OK(exchange)

    return answer


@asynccontextmanager
async def slow_targets() -> AsyncIterator[list[Target]]:
    """Run targets that take one, two or three seconds."""
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(listening()) for _ in range(PORTS)]
        for target in targets:
            for seconds in (1, 2, 3):
                target.script(f"/{seconds}", after_s(seconds))
        yield targets


async def subscribe(project: Project, tasks: list[task_pb2.Task]) -> list[str]:
    task_ids: list[str] = []
    for start in range(0, len(tasks), BATCH):
        task_ids += [result.task.task_id for result in await project.batch(tasks[start : start + BATCH])]
    return task_ids


@pytest.mark.parametrize(
    ("descriptors", "workers", "count"),
    [(1_024, 1, 1_000), (128, 2, 300)],
)
async def test_more_tasks_at_once_than_descriptors(
    tmp_path: Path, descriptors: int, workers: int, count: int
) -> None:
    async with (
        slow_targets() as targets,
        serving(tmp_path, "--workers", str(workers), descriptors=f"-n {descriptors}") as served,
    ):
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task_ids = await subscribe(
                project,
                [post(targets[n % PORTS].url(f"/{n % 3 + 1}?{n}")) for n in range(count)],
            )
            assert all(task_ids)
            for task_id in task_ids:
                task, events = await project.ended(task_id)
                assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"], task
        deliveries = Counter(exchange.target for target in targets for exchange in target.exchanges)
        assert len(deliveries) == count
        assert set(deliveries.values()) == {1}
        await served.stop()
    assert "Too many open files" not in served.story
    warnings = [line for line in served.log if "event=descriptors_short" in line]
    assert len(warnings) == 1
    assert f"{descriptors}" in warnings[0]


async def test_connections_without_a_token_take_nothing_from_others(tmp_path: Path) -> None:
    """More of them than there are descriptors, from the address of everybody else."""
    async with (
        slow_targets() as targets,
        serving(tmp_path, "--workers", "1", descriptors="-n 1024") as served,
    ):
        await served.ready()
        port = int(served.address.rpartition(":")[2])
        async with connected(served.address) as channel:
            project = await register(channel)
            before = await subscribe(project, [post(targets[n % PORTS].url("/3")) for n in range(300)])
            async with idling(port, 1_100, "127.0.0.1") as idlers, asyncio.timeout(120):
                await idlers.until_open(0.75 * 448)
                async with connected(served.address) as other:
                    newcomer = await persistent(lambda: register(other))
                    after = await subscribe(newcomer, [post(target.url("/1")) for target in targets])
                    for task_id in after:
                        task, _ = await newcomer.ended(task_id)
                        assert (state_name(task), task.attempt_count) == ("COMPLETED", 1)
                for task_id in before:
                    task, events = await project.ended(task_id)
                    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "COMPLETED"], task
                assert idlers.open > 0
        await served.stop()
    assert "Too many open files" not in served.story
    assert "event=connections_closed" in served.story


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_process_has_the_hard_limit(tmp_path: Path, workers: str) -> None:
    """The soft limit is what a shell or an init system has set for programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(tmp_path, "--workers", workers, descriptors="-S -n 256") as served:
        await served.ready()
        pids = [served.process.pid, *served.family()]
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        assert set(limits.values()) == {(hard, hard)}, limits
        assert served.store_process() in limits
        await served.stop()
    assert "descriptors_short" not in served.story or hard < 3_072


async def test_too_few_descriptors_are_refused_with_what_to_set(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2", descriptors="-n 64") as served:
        assert await served.ended() == 1
    assert "64 files open, too few to serve" in served.story
    assert "Traceback" not in served.story
