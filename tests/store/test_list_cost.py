"""What ListTasks costs the store: bytes are bounded before they are read, and no project has it to itself."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.ports import TaskFilter
from kuueri_grpc.store import keys, task_listing
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.tasks import RedisTaskStore
from tests.keys import VAULT
from tests.store.ports import HOUR_MS, PROJECT, Ports

#: The largest that a task may have: 64, with values of 255 characters of 12 bytes each as they are kept.
LABELS = {f"{i:063d}": "\U0001d11e" * 255 for i in range(64)}
LABEL_BYTES = 64 * 255 * 12
OTHERS = ("project1111111111", "project2222222222")


def spec(name: str, labels: dict[str, str] | None = None, body: bytes = b"") -> TaskSpec:
    target = HttpTarget("https://target.example/hook", body=body)
    return TaskSpec(name, target, schedule=Schedule(delay_ms=HOUR_MS), labels=labels or {})


class Recording(ScriptRunner):
    """Notes the answers of list scripts, and how many of them were with the store at once."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports.client, ports.settings)
        self.answers: list[list[Any]] = []
        self.under_way: Counter[str] = Counter()
        self.most_at_once = self.most_of_a_project = 0

    async def run(self, name: str, partition: int, arguments: Sequence[Argument]) -> Any:
        project = str(arguments[0])
        self.under_way[project] += 1
        self.most_at_once = max(self.most_at_once, self.under_way.total())
        self.most_of_a_project = max(self.most_of_a_project, self.under_way[project])
        answer = await super().run(name, partition, arguments)
        self.under_way[project] -= 1
        if name == "list":
            self.answers.append(answer)
        return answer


async def test_labels_are_bounded_before_they_are_read(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}", LABELS) for n in range(40)))
    runner = Recording(ports)
    tasks = RedisTaskStore(runner, ports.settings, VAULT)

    page = await tasks.list_tasks(PROJECT, TaskFilter(labels={"a": "b"}), 50, None)

    assert (list(page.tasks), page.cursor) == ([], None)
    assert [looked for *_, looked in runner.answers] == [3] * 13 + [1]
    assert 3 * LABEL_BYTES <= task_listing._CALL_WORK


async def test_what_is_returned_is_too(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}", body=bytes(200_000)) for n in range(30)))
    runner = Recording(ports)
    tasks = RedisTaskStore(runner, ports.settings, VAULT)

    first = await tasks.list_tasks(PROJECT, TaskFilter(), 1_000, None)
    second = await tasks.list_tasks(PROJECT, TaskFilter(), 1_000, first.cursor)

    assert {len(snapshots) for snapshots, *_ in runner.answers} == {3}
    listed = [task.spec.task_id for page in (first, second) for task in page.tasks]
    assert listed == [f"t{n}" for n in reversed(range(30))]
    # No more than a client takes in one message.
    assert len(first.tasks) * 200_000 < 4_000_000


async def test_a_task_that_is_larger_than_the_bound_is_listed_alone(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}", LABELS, bytes(1_048_576)) for n in range(3)))
    runner = Recording(ports)

    page = await RedisTaskStore(runner, ports.settings, VAULT).list_tasks(
        PROJECT, TaskFilter(labels=LABELS), 10, None
    )

    assert [task.spec.task_id for task in page.tasks] == ["t2", "t1", "t0"]
    assert [len(snapshots) for snapshots, *_ in runner.answers] == [1, 1, 1]


async def test_what_a_page_makes_the_store_do_ends(ports: Ports) -> None:
    """A filter that matches nothing, over more than one call may look at: an empty page with a cursor."""
    await ports.subscribe(*(spec(f"t{n}", LABELS) for n in range(100)))
    runner = Recording(ports)

    page = await RedisTaskStore(runner, ports.settings, VAULT).list_tasks(
        PROJECT, TaskFilter(labels={"a": "b"}), 10, None
    )

    assert (list(page.tasks), len(runner.answers)) == ([], task_listing._PAGE_CALLS)
    assert page.cursor is not None


async def test_projects_take_turns(ports: Ports) -> None:
    """However many pages one asks for at once: the call of another waits for two scripts at the most."""
    for project in (PROJECT, *OTHERS):
        if project != PROJECT:
            await ports.create_project(project)
        await ports.subscribe(*(spec(f"t{n}", LABELS) for n in range(12)), project_id=project)
    runner = Recording(ports)
    tasks = RedisTaskStore(runner, ports.settings, VAULT)
    where = TaskFilter(labels={"a": "b"})

    greedy = [asyncio.create_task(tasks.list_tasks(PROJECT, where, 10, None)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(*(tasks.list_tasks(other, where, 10, None) for other in OTHERS))

    assert sum(page.done() for page in greedy) <= 2  # of three calls each, as theirs
    await asyncio.gather(*greedy)
    assert (runner.most_at_once, runner.most_of_a_project) == (2, 1)


async def test_an_entry_whose_task_is_gone_is_dropped(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}") for n in range(3)))
    partition = keys.partition_of(PROJECT, ports.settings.partitions)
    script = "redis.call('SELECT', 1) redis.call('ZADD', KEYS[1], '2000000000000000', 'gone')"
    index = f"{{{partition}}}:index:{PROJECT}"
    await ports.client.eval(script, 1, index)

    page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 3, None)

    assert [task.spec.task_id for task in page.tasks] == ["t2", "t1", "t0"]
    assert (ports.raw().databases[1][index].scores or {}).keys() == {"t0", "t1", "t2"}
