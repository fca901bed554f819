"""Accepting tasks: quota, ids, request ids, and that each result stands for itself."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from kuueri_grpc.domain.errors import (
    KuueriError,
    ProjectNotFound,
    QuotaExceeded,
    TaskExists,
)
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule, Task
from kuueri_grpc.ports import NewTask, TaskFilter
from kuueri_grpc.store import subscriptions
from tests.store.ports import HOUR_MS, PROJECT, QUEUE_LIMIT, Ports, spec


def later(task_id: str, **more: object) -> NewTask:
    return NewTask(spec(task_id, schedule=Schedule(delay_ms=HOUR_MS)), **more)  # type: ignore[arg-type]


def kinds(results: list[Task | KuueriError]) -> list[str]:
    return [type(result).__name__ for result in results]


async def test_a_new_task_is_answered_as_it_is_kept(ports: Ports) -> None:
    before_ms = await ports.now_ms()

    (task,) = await ports.try_subscribe(later("a"))

    assert isinstance(task, Task)
    assert task == await ports.tasks.get(PROJECT, "a")
    assert before_ms <= task.create_time_ms <= await ports.now_ms()
    assert (task.state, task.schedule_time_ms) == (TaskState.SCHEDULED, task.create_time_ms + HOUR_MS)


async def test_an_instant_that_has_passed_is_kept_as_it_was_given(ports: Ports) -> None:
    (task,) = await ports.subscribe(spec("a", schedule=Schedule(at_ms=1_000)))

    assert task.schedule_time_ms == 1_000
    assert (await ports.take("a")).schedule_time_ms == 1_000


#: Ten years from now is as far as a client may plan; this is beyond every client's plan.
@pytest.mark.parametrize("at_ms", [4_102_444_800_000, 9_999_999_999_999])
async def test_a_far_instant_keeps_every_digit(ports: Ports, at_ms: int) -> None:
    await ports.subscribe(spec("a", schedule=Schedule(at_ms=at_ms)))

    kept = await ports.tasks.timeline(PROJECT, "a", 0, 10)

    assert (kept.task.schedule_time_ms, kept.events[0].next_time_ms) == (at_ms, at_ms)
    assert (await ports.look()).next_due_ms == at_ms


async def test_the_quota_is_exact_however_many_calls_race_for_it(ports: Ports) -> None:
    batches = [[later(f"{call}-{i}") for i in range(10)] for call in range(20)]

    answers = await asyncio.gather(*(ports.try_subscribe(*batch, limit=57) for batch in batches))

    counted = Counter(kind for answer in answers for kind in kinds(answer))
    assert counted == {"Task": 57, "QuotaExceeded": 143}
    assert await ports.task_in_queue() == 57


async def test_a_full_project_is_told_its_limit_and_gets_room_when_a_task_ends(ports: Ports) -> None:
    (first, refused) = await ports.try_subscribe(later("a"), later("b"), limit=1)
    assert isinstance(first, Task)
    assert isinstance(refused, QuotaExceeded)
    assert (refused.project_id, refused.limit) == (PROJECT, 1)

    await ports.tasks.cancel(PROJECT, "a")

    assert kinds(await ports.try_subscribe(later("b"), limit=1)) == ["Task"]


async def test_a_project_may_have_a_limit_of_its_own(ports: Ports) -> None:
    await ports.projects.set_task_limit(PROJECT, 2)
    answers = await ports.try_subscribe(later("a"), later("b"), later("c"), limit=1)
    assert kinds(answers) == ["Task", "Task", "QuotaExceeded"]
    assert (await ports.projects.get(PROJECT)).task_in_queue_limit == 2

    await ports.projects.set_task_limit(PROJECT, 0)
    (refused,) = await ports.try_subscribe(later("c"), limit=100)
    assert isinstance(refused, QuotaExceeded)
    assert refused.limit == 0
    assert await ports.task_in_queue() == 2

    await ports.projects.set_task_limit(PROJECT, None)
    assert kinds(await ports.try_subscribe(later("c"), later("d"), limit=3)) == ["Task", "QuotaExceeded"]
    assert (await ports.projects.get(PROJECT)).task_in_queue_limit == QUEUE_LIMIT


async def test_the_limit_of_one_project_is_not_that_of_another(ports: Ports) -> None:
    other = await ports.create_project("project1111111111")
    await ports.projects.set_task_limit(PROJECT, 0)
    assert kinds(await ports.try_subscribe(later("a"), limit=1, project_id=other)) == ["Task"]


async def test_there_is_no_limit_for_what_is_no_project_or_is_being_deleted(ports: Ports) -> None:
    await ports.projects.close(PROJECT)
    before = ports.raw().databases
    for project_id in (PROJECT, "nobodys"):
        with pytest.raises(ProjectNotFound):
            await ports.projects.set_task_limit(project_id, 7)
    assert ports.raw().databases == before


async def test_one_project_s_tasks_do_not_use_up_another_s_quota(ports: Ports) -> None:
    other = await ports.create_project("project1111111111")
    await ports.try_subscribe(later("a"), limit=1)

    assert kinds(await ports.try_subscribe(later("a"), limit=1, project_id=other)) == ["Task"]


async def test_a_project_that_is_not_there_gets_nothing(ports: Ports) -> None:
    (refused,) = await ports.try_subscribe(later("a"), project_id="nobody0000000000")

    assert isinstance(refused, ProjectNotFound)
    assert not ports.raw().names_with("nobody")


@pytest.mark.parametrize("distance", [1, 250], ids=["one script call", "several script calls"])
async def test_an_id_that_comes_twice_in_a_batch_is_taken_once(ports: Ports, distance: int) -> None:
    filling = [later(f"filling-{i}") for i in range(distance - 1)]

    first, *_, second = await ports.try_subscribe(later("a"), *filling, NewTask(spec("a")))

    assert isinstance(first, Task)
    assert isinstance(second, TaskExists)
    assert await ports.tasks.get(PROJECT, "a") == first
    assert await ports.task_in_queue() == distance


async def test_a_taken_id_does_not_touch_its_task_or_the_rest_of_the_batch(ports: Ports) -> None:
    (task,) = await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))

    answers = await ports.try_subscribe(later("b"), later("a"), later("c"))

    assert kinds(answers) == ["Task", "TaskExists", "Task"]
    assert await ports.tasks.get(PROJECT, "a") == task


async def test_an_id_is_free_again_after_a_purge(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    await ports.report((await ports.take("a")).lease, Trigger.COMPLETE)
    assert kinds(await ports.try_subscribe(later("a"))) == ["TaskExists"]

    await ports.tasks.purge(PROJECT, "a")

    assert kinds(await ports.try_subscribe(later("a"))) == ["Task"]


async def test_a_batch_is_accepted_in_its_order_where_the_script_is_not_loaded_yet(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ports.everywhere("SCRIPT", "FLUSH")

    async def answer_what_was_sent(_: float) -> None:
        await ports.client.ping()

    patched = SimpleNamespace(**{**vars(asyncio), "sleep": answer_what_was_sent})
    monkeypatch.setattr(subscriptions, "asyncio", patched)
    tasks = await ports.subscribe(*(spec(f"t{n}") for n in range(250)))
    page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 250, None)

    newest_first = [task.spec.task_id for task in page.tasks]
    assert newest_first == [task.spec.task_id for task in reversed(tasks)]
