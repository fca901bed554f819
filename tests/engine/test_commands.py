"""Commands: what they add to the store's."""

import re

from kuueri_grpc.domain.errors import KuueriError, QuotaExceeded
from kuueri_grpc.domain.task import Task
from kuueri_grpc.engine.commands import Commands
from kuueri_grpc.ports import NewTask, TaskFilter
from tests.engine.parts import instance
from tests.store.ports import PROJECT, Ports, spec

#: As the contract has a task_id: 1-128 of [A-Za-z0-9_-].
TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def ids(results: object) -> list[str]:
    assert isinstance(results, list)
    return [result.spec.task_id for result in results if isinstance(result, Task)]


async def test_a_task_without_an_id_gets_one_that_sorts_by_time(ports: Ports) -> None:
    async with instance(ports) as here:
        given: list[str] = []
        for _ in range(5):
            given += ids(await here.commands.subscribe(PROJECT, [NewTask(spec(""))]))
            await ports.until(await ports.now_ms() + 2)

        assert given == sorted(given)
        assert len(set(given)) == 5
        assert all(TASK_ID.fullmatch(task_id) for task_id in given)
        page = await here.commands.list(PROJECT, TaskFilter(), 10, None)
        assert [task.spec.task_id for task in page.tasks] == given[::-1]


async def test_an_id_of_the_caller_s_is_kept(ports: Ports) -> None:
    async with instance(ports) as here:
        results = await here.commands.subscribe(PROJECT, [NewTask(spec("mine")), NewTask(spec(""))])

        assert ids(results)[0] == "mine"
        assert (await here.commands.get(PROJECT, "mine")).spec.task_id == "mine"


async def test_the_limit_is_the_server_s(ports: Ports) -> None:
    async with instance(ports) as here:
        commands = Commands(ports.tasks, here.revocations, queue_limit=2)
        results: list[Task | KuueriError] = [
            *await commands.subscribe(PROJECT, [NewTask(spec("")) for _ in range(3)])
        ]

    assert [isinstance(result, QuotaExceeded) for result in results] == [False, False, True]
