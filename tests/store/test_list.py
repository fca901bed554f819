"""ListTasks: newest first, filtered, and in pages that neither skip nor repeat."""

import pytest

from kuueri_grpc.domain.errors import CursorInvalid
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule, Task
from kuueri_grpc.ports import TaskFilter
from tests.store.drive import drive
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


def ids(tasks: list[Task]) -> list[str]:
    return [task.spec.task_id for task in tasks]


async def every(ports: Ports, where: TaskFilter | None = None, page_size: int = 100) -> list[Task]:
    """Read all pages."""
    tasks: list[Task] = []
    cursor = None
    while True:
        page = await ports.tasks.list_tasks(PROJECT, where or TaskFilter(), page_size, cursor)
        assert len(page.tasks) <= page_size
        tasks += page.tasks
        if (cursor := page.cursor) is None:
            return tasks


async def test_newest_first_also_within_one_call(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"a{n}") for n in range(150)))
    await ports.subscribe(*(spec(f"b{n}") for n in range(3)))

    assert ids(await every(ports)) == ["b2", "b1", "b0", *(f"a{n}" for n in reversed(range(150)))]


async def test_a_task_is_listed_as_it_is(ports: Ports) -> None:
    for state in TaskState:
        await drive(ports, state)

    for task in await every(ports):
        assert task == await ports.tasks.get(PROJECT, task.spec.task_id)


async def test_an_empty_project(ports: Ports) -> None:
    page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, None)

    assert (list(page.tasks), page.cursor) == ([], None)


async def test_a_project_lists_its_own(ports: Ports) -> None:
    other = await ports.create_project("project1111111111")
    await ports.subscribe(spec("mine"))
    await ports.subscribe(spec("theirs"), project_id=other)

    assert ids(await every(ports)) == ["mine"]


@pytest.mark.parametrize("state", sorted(TaskState))
async def test_by_state(ports: Ports, state: TaskState) -> None:
    driven = {each: await drive(ports, each) for each in TaskState}

    assert ids(await every(ports, TaskFilter(state=state))) == [driven[state].task_id]


async def test_by_queue_and_labels_together(ports: Ports) -> None:
    await ports.subscribe(
        spec("a", queue="mail", labels={"team": "x", "kind": "1"}),
        spec("b", queue="mail", labels={"team": "x", "kind": "2"}),
        spec("c", queue="mail"),
        spec("d", queue="other", labels={"team": "x", "kind": "1"}),
    )

    assert ids(await every(ports, TaskFilter(queue="mail"))) == ["c", "b", "a"]
    assert ids(await every(ports, TaskFilter(labels={"team": "x"}))) == ["d", "b", "a"]
    assert ids(await every(ports, TaskFilter(labels={"team": "x", "kind": "1"}))) == ["d", "a"]
    assert ids(await every(ports, TaskFilter(queue="mail", labels={"kind": "1"}))) == ["a"]
    assert ids(await every(ports, TaskFilter(labels={"team": "y"}))) == []


@pytest.mark.parametrize("value", ['"', "\\", "ü€𝄞", "a,b:c", "{}", ""])
async def test_labels_with_any_text(ports: Ports, value: str) -> None:
    await ports.subscribe(spec("a", labels={"k": value}), spec("b", labels={"k": "other"}))

    (task,) = await every(ports, TaskFilter(labels={"k": value}))

    assert task.spec.labels == {"k": value}


async def test_pages_of_every_size_cover_everything(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}") for n in range(20)))
    whole = await every(ports)

    for page_size in (1, 3, 19, 20, 21):
        assert await every(ports, page_size=page_size) == whole


async def test_2500_tasks_are_listed_once_each_while_new_ones_arrive(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}", schedule=Schedule(delay_ms=HOUR_MS)) for n in range(2_500)))
    seen: list[str] = []
    cursor = None
    for page_number in range(100):
        page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 97, cursor)
        seen += [task.spec.task_id for task in page.tasks]
        # What has come since does not move what is still to be read, and neither does what leaves.
        await ports.subscribe(spec(f"new-{page_number}"))
        await ports.tasks.pause(PROJECT, seen[-1])
        await ports.tasks.purge(PROJECT, seen[-1])
        if (cursor := page.cursor) is None:
            break

    assert seen == [f"t{n}" for n in reversed(range(2_500))]


async def test_a_call_looks_at_a_bounded_number_of_tasks(ports: Ports) -> None:
    """A filter that matches little makes short and even empty pages, with a cursor to go on."""
    await ports.subscribe(spec("needle", queue="rare"))
    await ports.subscribe(*(spec(f"t{n}", schedule=Schedule(delay_ms=HOUR_MS)) for n in range(2_100)))
    where = TaskFilter(queue="rare")

    first = await ports.tasks.list_tasks(PROJECT, where, 10, None)
    second = await ports.tasks.list_tasks(PROJECT, where, 10, first.cursor)

    assert list(first.tasks) == []
    assert first.cursor is not None
    assert (ids(list(second.tasks)), second.cursor) == (["needle"], None)


async def test_exactly_as_many_as_one_call_looks_at(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"t{n}", schedule=Schedule(delay_ms=HOUR_MS)) for n in range(2_000)))

    page = await ports.tasks.list_tasks(PROJECT, TaskFilter(queue="rare"), 10, None)

    assert (list(page.tasks), page.cursor) == ([], None)


async def test_a_task_that_changes_state_between_pages_is_judged_when_it_is_read(ports: Ports) -> None:
    await ports.subscribe(spec("old"), spec("new"))
    first = await ports.tasks.list_tasks(PROJECT, TaskFilter(state=TaskState.SCHEDULED), 1, None)
    await ports.tasks.cancel(PROJECT, "old")

    second = await ports.tasks.list_tasks(PROJECT, TaskFilter(state=TaskState.SCHEDULED), 1, first.cursor)

    assert (ids(list(first.tasks)), ids(list(second.tasks))) == (["new"], [])


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", "/", "12/", "/a", "-5/a", "+inf/a", "1.5/a", "٣/a", "1e5/a", "0x1/a"]
)
async def test_a_cursor_that_was_never_given(ports: Ports, cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        await ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, cursor)


async def test_ended_tasks_are_listed_until_they_expire(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    await ports.report((await ports.take("a")).lease, Trigger.COMPLETE)

    assert ids(await every(ports)) == ["a"]
