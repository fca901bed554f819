"""Calls for one task each that come at one moment share a script call; nobody notices but the store."""

import asyncio
from collections.abc import Sequence

import pytest

from kuueri_grpc.domain.errors import (
    KuueriError,
    QuotaExceeded,
    RequestIdReused,
    StoreUnavailable,
    TaskExists,
)
from kuueri_grpc.domain.task import Task
from kuueri_grpc.ports import NewTask
from kuueri_grpc.store.keys import EXECUTION, partition_of
from tests.store.ports import PROJECT, QUEUE_LIMIT, Ports, spec

MANY = 60


async def each(
    ports: Ports, *tasks: NewTask, limit: int = QUEUE_LIMIT, project_id: str = PROJECT
) -> list[Task | KuueriError]:
    """Subscribe tasks, each by a call of its own, all at once."""
    calls = await asyncio.gather(
        *(ports.try_subscribe(task, limit=limit, project_id=project_id) for task in tasks)
    )
    return [result for (result,) in calls]


async def test_they_are_accepted_in_few_script_calls(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = ports.runner.run

    async def counted(name: str, partition: int, arguments: Sequence[str | int | bytes]) -> object:
        sizes.append(int(arguments[4]))
        return await run(name, partition, arguments)

    monkeypatch.setattr(ports.runner, "run", counted)
    results = await each(ports, *(NewTask(spec(f"t{n}")) for n in range(MANY)))

    assert [task.spec.task_id for task in results if isinstance(task, Task)] == [f"t{n}" for n in range(MANY)]
    assert sizes == [MANY]
    assert await ports.task_in_queue() == MANY


async def test_the_quota_is_exact(ports: Ports) -> None:
    results = await each(ports, *(NewTask(spec(f"t{n}")) for n in range(MANY)), limit=MANY // 2)

    assert sum(isinstance(result, Task) for result in results) == MANY // 2
    assert sum(isinstance(result, QuotaExceeded) for result in results) == MANY // 2
    assert await ports.task_in_queue() == MANY // 2


async def test_of_one_id_one_is_accepted(ports: Ports) -> None:
    results = await each(ports, *[NewTask(spec("same"))] * MANY)

    assert sum(isinstance(result, Task) for result in results) == 1
    assert sum(isinstance(result, TaskExists) for result in results) == MANY - 1


async def test_of_one_request_all_get_the_same_task(ports: Ports) -> None:
    """But for the one that means another task by it."""
    print_, other = "f" * 64, "e" * 64
    same = [NewTask(spec(f"t{n}"), "request", print_) for n in range(MANY)]
    *results, reused = await each(ports, *same, NewTask(spec("other"), "request", other))

    assert {result.spec.task_id for result in results if isinstance(result, Task)} == {"t0"}
    assert sum(isinstance(result, Task) for result in results) == MANY
    assert isinstance(reused, RequestIdReused)
    assert await ports.task_in_queue() == 1


async def test_a_record_that_breaks_the_script_costs_the_others_nothing(ports: Ports) -> None:
    key = f"{{{partition_of(PROJECT, 4)}}}:task:{PROJECT}/damaged"
    await ports.run_in(EXECUTION, "redis.call('SET', KEYS[1], 'x')", [key])
    a, damaged, b = await each(ports, *(NewTask(spec(task_id)) for task_id in ("a", "damaged", "b")))

    assert isinstance(a, Task)
    assert isinstance(damaged, StoreUnavailable)
    assert isinstance(b, Task)
    assert (a.spec.task_id, b.spec.task_id) == ("a", "b")
    assert await ports.task_in_queue() == 2
    await ports.run_in(EXECUTION, "redis.call('DEL', KEYS[1])", [key])


async def test_projects_are_not_mixed(ports: Ports) -> None:
    other = await ports.create_project("project0000000001")
    await asyncio.gather(
        each(ports, *(NewTask(spec(f"t{n}")) for n in range(MANY))),
        each(ports, *(NewTask(spec(f"t{n}")) for n in range(MANY // 2)), project_id=other),
    )

    assert await ports.task_in_queue() == MANY
    assert await ports.task_in_queue(other) == MANY // 2
