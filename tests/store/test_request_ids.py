"""Request ids: what a repeated call is answered, whatever has become of the task by then."""

import asyncio

import pytest

from kuueri_grpc.domain.errors import (
    KuueriError,
    ProjectNotFound,
    RequestIdReused,
    TaskExists,
    TaskNotFound,
    TaskPurged,
)
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Schedule, Task
from kuueri_grpc.ports import NewTask
from kuueri_grpc.store import keys
from kuueri_grpc.store.settings import StoreSettings
from tests.keys import VAULT
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec


def later(task_id: str, **more: object) -> NewTask:
    return NewTask(spec(task_id, schedule=Schedule(delay_ms=HOUR_MS)), **more)  # type: ignore[arg-type]


def kinds(results: list[Task | KuueriError]) -> list[str]:
    return [type(result).__name__ for result in results]


def asked(task_id: str = "a", fingerprint: str = "f") -> NewTask:
    """A task with the request id `r`."""
    return later(task_id, request_id="r", fingerprint=fingerprint)


def batch(count: int, prefix: str = "t", request_id: str = "r") -> list[NewTask]:
    return [later(f"{prefix}{i}", request_id=request_id, fingerprint=f"f{i}", place=i) for i in range(count)]


async def is_gone(ports: Ports, task: NewTask) -> None:
    """A repeated call is refused, and makes nothing."""
    before = ports.raw().databases
    (refused,) = await ports.try_subscribe(task)
    assert isinstance(refused, TaskPurged)
    assert (refused.request_id, refused.task_id) == ("r", "a")
    assert ports.raw().databases == before


async def test_the_same_request_gives_the_task_of_the_first_call(ports: Ports) -> None:
    (first,) = await ports.try_subscribe(later("a", request_id="r", fingerprint="f"))

    (again,) = await ports.try_subscribe(later("generated-anew", request_id="r", fingerprint="f"))

    assert again == first
    assert await ports.task_in_queue() == 1
    with pytest.raises(TaskNotFound):
        await ports.tasks.get(PROJECT, "generated-anew")


async def test_it_gives_the_task_as_it_is_by_now(ports: Ports) -> None:
    await ports.try_subscribe(later("a", request_id="r", fingerprint="f"))
    await ports.tasks.cancel(PROJECT, "a")

    (again,) = await ports.try_subscribe(later("b", request_id="r", fingerprint="f"))

    assert isinstance(again, Task)
    assert (again.spec.task_id, again.state) == ("a", TaskState.CANCELED)


async def test_it_is_answered_although_the_project_is_full(ports: Ports) -> None:
    (first,) = await ports.try_subscribe(later("a", request_id="r", fingerprint="f"), limit=1)

    assert await ports.try_subscribe(later("b", request_id="r", fingerprint="f"), limit=1) == [first]


async def test_another_content_is_refused(ports: Ports) -> None:
    await ports.try_subscribe(later("a", request_id="r", fingerprint="f"))

    (refused,) = await ports.try_subscribe(later("b", request_id="r", fingerprint="another"))

    assert isinstance(refused, RequestIdReused)
    assert (refused.request_id, refused.task_id) == ("r", "a")


async def test_it_belongs_to_its_project(ports: Ports) -> None:
    other = await ports.create_project("project1111111111")
    await ports.try_subscribe(later("a", request_id="r", fingerprint="f"))

    (task,) = await ports.try_subscribe(later("b", request_id="r", fingerprint="g"), project_id=other)

    assert isinstance(task, Task)


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, request_id_ttl_ms=20)])
async def test_it_is_forgotten_after_its_time(ports: Ports) -> None:
    await ports.try_subscribe(later("a", request_id="r", fingerprint="f"))
    await ports.until(await ports.now_ms() + 21)

    (task,) = await ports.try_subscribe(later("b", request_id="r", fingerprint="another"))

    assert isinstance(task, Task)
    assert task.spec.task_id == "b"


@pytest.mark.parametrize("distance", [1, 250], ids=["one script call", "several script calls"])
async def test_twice_in_a_batch_it_makes_one_task(ports: Ports, distance: int) -> None:
    filling = [later(f"filling-{i}") for i in range(distance - 1)]
    request = {"request_id": "r", "fingerprint": "f"}

    first, *_, again = await ports.try_subscribe(later("a", **request), *filling, later("b", **request))

    assert again == first == await ports.tasks.get(PROJECT, "a")


async def test_a_refused_task_does_not_use_it_up(ports: Ports) -> None:
    await ports.try_subscribe(later("a"))
    await ports.try_subscribe(later("a", request_id="r", fingerprint="f"))

    assert kinds(await ports.try_subscribe(later("b", request_id="r", fingerprint="g"))) == ["Task"]


async def test_after_a_purge_it_makes_nothing(ports: Ports) -> None:
    await ports.try_subscribe(asked())
    await ports.tasks.pause(PROJECT, "a")
    await ports.tasks.purge(PROJECT, "a")
    await is_gone(ports, asked("generated-anew"))
    # What else was asked for under that id is told as before.
    assert kinds(await ports.try_subscribe(asked(fingerprint="g"))) == ["RequestIdReused"]


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, history_ms=20)])
async def test_it_lives_longer_than_a_short_history(ports: Ports) -> None:
    await ports.try_subscribe(asked())
    await ports.tasks.cancel(PROJECT, "a")
    await ports.until(await ports.now_ms() + 21)
    with pytest.raises(TaskNotFound):
        await ports.tasks.get(PROJECT, "a")
    await is_gone(ports, asked("generated-anew"))


@pytest.mark.parametrize("content", ["f", "g"], ids=["the same content", "another content"])
async def test_a_later_task_of_the_id_is_not_the_one_that_it_made(ports: Ports, content: str) -> None:
    await ports.try_subscribe(asked())
    await ports.tasks.cancel(PROJECT, "a")
    await ports.tasks.purge(PROJECT, "a")
    (other,) = await ports.try_subscribe(later("a", request_id="r2", fingerprint=content))
    assert isinstance(other, Task)

    await is_gone(ports, asked())

    assert await ports.tasks.get(PROJECT, "a") == other
    assert await ports.try_subscribe(later("a", request_id="r2", fingerprint=content)) == [other]


async def test_it_is_known_in_a_project_that_is_being_deleted(ports: Ports) -> None:
    await ports.try_subscribe(asked())
    await ports.projects.close(PROJECT)
    again, new = await ports.try_subscribe(asked("b"), later("c"))
    assert isinstance(again, Task)
    assert isinstance(new, ProjectNotFound)


async def test_it_goes_with_its_project(ports: Ports) -> None:
    await ports.try_subscribe(asked(), *batch(3))
    await ports.projects.close(PROJECT)
    await ports.projects.end_tasks(PROJECT, None)
    assert (await ports.projects.erase_tasks(PROJECT)).left == 0
    assert await ports.projects.forget_requests(PROJECT)
    await ports.projects.drop(PROJECT)
    assert not ports.raw().names_with(PROJECT)


class TestBatch:
    """One request id for all tasks of a batch: each is known by its place."""

    @pytest.mark.parametrize("count", [3, 250], ids=["one script call", "several script calls"])
    async def test_a_repeated_batch_makes_nothing(self, ports: Ports, count: int) -> None:
        first = await ports.try_subscribe(*batch(count))

        again = await ports.try_subscribe(*batch(count, prefix="generated-anew-"))

        assert again == first
        assert await ports.task_in_queue() == count

    async def test_two_at_once_make_one(self, ports: Ports) -> None:
        one, other = await asyncio.gather(
            ports.try_subscribe(*batch(250, "one-")), ports.try_subscribe(*batch(250, "other-"))
        )
        assert one == other
        assert await ports.task_in_queue() == 250

    async def test_one_that_got_through_in_part_is_completed(self, ports: Ports) -> None:
        """As after a crash between two script calls, or where the project was full meanwhile."""
        first = await ports.try_subscribe(*batch(250), limit=120)
        assert kinds(first) == ["Task"] * 120 + ["QuotaExceeded"] * 130

        again = await ports.try_subscribe(*batch(250, "generated-anew-"))

        assert again[:120] == first[:120]
        assert kinds(again) == ["Task"] * 250
        assert await ports.task_in_queue() == 250

    async def test_each_place_is_judged_alone(self, ports: Ports) -> None:
        first = await ports.try_subscribe(*batch(3))
        await ports.tasks.cancel(PROJECT, "t0")
        await ports.tasks.purge(PROJECT, "t0")
        other = later("x", request_id="r", fingerprint="another", place=1)

        purged, reused, same, new = await ports.try_subscribe(batch(1)[0], other, *batch(4)[2:])

        assert isinstance(purged, TaskPurged)
        assert isinstance(reused, RequestIdReused)
        assert (reused.request_id, reused.task_id) == ("r", "t1")
        assert same == first[2]
        assert isinstance(new, Task)

    async def test_its_id_is_not_that_of_a_single_call(self, ports: Ports) -> None:
        assert kinds(await ports.try_subscribe(*batch(2), asked())) == ["Task"] * 3
        assert kinds(await ports.try_subscribe(later("b", request_id="r", fingerprint="f"))) == ["Task"]
        assert await ports.task_in_queue() == 3


class TestRecall:
    """What a repeated call is answered for a task that may not be accepted now."""

    async def recall(self, ports: Ports, *tasks: NewTask) -> list[Task | KuueriError | None]:
        before = ports.raw().databases
        answer = await ports.tasks.recall(PROJECT, tasks)
        assert ports.raw().databases == before
        return answer

    async def test_all_kinds_of_answers(self, ports: Ports) -> None:
        (task,) = await ports.try_subscribe(asked())
        await ports.try_subscribe(later("gone", request_id="r2", fingerprint="f"), *batch(2))
        await ports.tasks.cancel(PROJECT, "gone")
        await ports.tasks.purge(PROJECT, "gone")

        same, reused, purged, exists, known, nothing, never = await self.recall(
            ports,
            asked("generated-anew"),
            asked(fingerprint="g"),
            later("gone", request_id="r2", fingerprint="f"),
            later("t0"),
            batch(2, "generated-anew-")[1],
            later("never"),
            later("", request_id="never", fingerprint="f"),
        )

        assert same == task
        assert isinstance(reused, RequestIdReused)
        assert isinstance(purged, TaskPurged)
        assert isinstance(exists, TaskExists)
        assert known == await ports.tasks.get(PROJECT, "t1")
        assert (nothing, never) == (None, None)

    async def test_a_task_id_in_use_is_told_where_the_request_id_is_new(self, ports: Ports) -> None:
        await ports.try_subscribe(asked())
        (exists,) = await self.recall(ports, later("a", request_id="new", fingerprint="f"))
        assert isinstance(exists, TaskExists)

    async def test_many(self, ports: Ports) -> None:
        first = await ports.try_subscribe(*batch(250))
        assert await self.recall(ports, *batch(250, "generated-anew-")) == first


class TestEarlierVersion:
    """Request ids as the version before keeps them: `<task id> <digest of the bytes on the wire>`."""

    async def keep(self, ports: Ports, task_id: str) -> None:
        partition = keys.partition_of(PROJECT, ports.settings.partitions)
        key = f"{{{partition}}}:request:{PROJECT}/r"
        kept = f"{task_id} {VAULT.fingerprints(PROJECT, 'of-the-wire').split()[0]}"
        script = "redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)"
        await ports.run_in(keys.EXECUTION, script, [key], kept)

    async def test_the_task_is_answered_where_its_content_is_the_same(self, ports: Ports) -> None:
        (task,) = await ports.try_subscribe(later("a"))
        await self.keep(ports, "a")
        assert await ports.try_subscribe(asked("generated-anew")) == [task]
        assert await ports.tasks.recall(PROJECT, [asked("generated-anew")]) == [task]

    async def test_another_content_is_refused(self, ports: Ports) -> None:
        await ports.try_subscribe(later("a"))
        await self.keep(ports, "a")
        other = NewTask(spec("b", schedule=Schedule(delay_ms=HOUR_MS + 1)), "r", "f")
        (refused,) = await ports.try_subscribe(other)
        assert isinstance(refused, RequestIdReused)
        assert (refused.request_id, refused.task_id) == ("r", "a")

    async def test_a_task_that_is_gone_is_not_made_anew(self, ports: Ports) -> None:
        await self.keep(ports, "a")
        await is_gone(ports, asked("generated-anew"))


async def test_a_record_of_a_later_version_is_understood(ports: Ports) -> None:
    """It may have more in it than this one knows."""
    (task,) = await ports.try_subscribe(asked())
    key = f"{{{keys.partition_of(PROJECT, ports.settings.partitions)}}}:request:{PROJECT}/r"
    await ports.run_in(keys.EXECUTION, "redis.call('APPEND', KEYS[1], ' more')", [key])
    assert await ports.try_subscribe(asked("generated-anew")) == [task]
