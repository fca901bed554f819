"""What is left of a task: its timeline, for as long as it is kept, and nothing afterwards."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from kuueri_grpc.domain.errors import CursorTooOld, TaskNotFound, TaskRunning
from kuueri_grpc.domain.state import TERMINAL_STATES, TaskState, Trigger
from kuueri_grpc.domain.timeline import TERMINAL_EVENTS, EventType, Reason
from kuueri_grpc.ports import NewTask, TaskFilter
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.keys import TIMELINE, partition_of
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import DAY_MS, StoreSettings
from tests.keys import VAULT
from tests.store.drive import drive
from tests.store.ports import PROJECT, Ports, spec

#: Long enough to look at what has ended, short enough to wait for.
HISTORY_MS = 300

short_history = pytest.mark.parametrize(
    "store_settings", [StoreSettings(partitions=4, history_ms=HISTORY_MS)], ids=["short history"]
)


class Noting(ScriptRunner):
    """Notes what the scripts of a method answer, by round trip."""

    def __init__(self, client: Commands, settings: StoreSettings) -> None:
        super().__init__(client, settings)
        self.answers: list[list[object]] = []

    async def run_each(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        answers = await super().run_each(name, calls)
        self.answers.append(answers)
        return answers


class TestExpiry:
    @pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
    async def test_every_key_of_an_ended_task_expires_after_three_days(
        self, ports: Ports, state: TaskState
    ) -> None:
        driven = await drive(ports, state)
        end_ms = (await ports.tasks.get(PROJECT, driven.task_id)).end_time_ms
        assert end_ms is not None

        raw = ports.raw()

        of_task = [(db, key) for db, key in raw.names() if key.endswith(f"/{driven.task_id}")]
        assert [db for db, _ in sorted(of_task)] == [1, 2, 3]
        assert {raw.databases[db][key].expires_ms for db, key in of_task} == {end_ms + 3 * DAY_MS}

    @short_history
    @pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
    async def test_nothing_is_left_when_it_has_expired_and_was_swept(
        self, ports: Ports, state: TaskState
    ) -> None:
        empty = ports.raw().names()
        driven = await drive(ports, state)
        await ports.until(await ports.now_ms() + HISTORY_MS + 1)

        with pytest.raises(TaskNotFound):
            await ports.tasks.get(PROJECT, driven.task_id)
        await ports.execution.sweep()

        left = {key for _, key in ports.raw().names() - empty}
        assert all(":claim:" in key for key in left)

    @short_history
    async def test_the_list_drops_what_has_expired_by_itself(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.COMPLETED)
        await ports.subscribe(spec("lives"))
        await ports.until(await ports.now_ms() + HISTORY_MS + 1)

        page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, None)

        assert [task.spec.task_id for task in page.tasks] == ["lives"]
        index = next(entry for key, entry in ports.raw().databases[1].items() if ":index:" in key)
        assert driven.task_id not in (index.scores or {})

    @short_history
    async def test_sweeping_spares_a_new_task_of_that_id(self, ports: Ports) -> None:
        await ports.subscribe(spec("a"))
        await ports.report((await ports.take("a")).lease, Trigger.COMPLETE)
        await ports.until(await ports.now_ms() + HISTORY_MS + 1)
        (anew,) = await ports.subscribe(spec("a"))

        await ports.execution.sweep()

        page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, None)
        assert list(page.tasks) == [anew]

    @short_history
    async def test_a_sweep_drops_all_that_there_is_in_bounded_pieces(self, ports: Ports) -> None:
        await ports.subscribe(*(spec(f"t{n}") for n in range(450)))
        for n in range(450):
            await ports.tasks.cancel(PROJECT, f"t{n}")
        await ports.until(await ports.now_ms() + HISTORY_MS + 1)
        runner = Noting(ports.client, ports.settings)

        await RedisExecutionStore(
            runner, ports.settings, ports.clock, VAULT, KeyRegistry(ports.client)
        ).sweep()

        assert runner.answers == [[200, 0, 0, 0], [200], [50]]
        assert not ports.raw().names_with(":ended")


class TestPurge:
    @pytest.mark.parametrize("state", sorted(TERMINAL_STATES | {TaskState.PAUSED}))
    async def test_nothing_of_its_own_is_left(self, ports: Ports, state: TaskState) -> None:
        driven = await drive(ports, state)

        await ports.tasks.purge(PROJECT, driven.task_id)

        with pytest.raises(TaskNotFound):
            await ports.tasks.get(PROJECT, driven.task_id)
        # What remembers the call itself names the task it was for, and so does the project's feed. What its
        # watches read expires.
        left = [key for _, key in ports.raw().names_with(driven.task_id) if ":request:" not in key]
        assert left == [f"{{{partition_of(PROJECT, 4)}}}:feed:{PROJECT}"]
        assert await ports.task_in_queue() == 0

    @pytest.mark.parametrize("state", sorted(TERMINAL_STATES | {TaskState.PAUSED}))
    async def test_the_last_event_of_the_task_is_an_end(self, ports: Ports, state: TaskState) -> None:
        """A paused task is canceled first, for those who follow its queue or all tasks."""
        driven = await drive(ports, state)
        before = (await ports.tasks.feed(PROJECT, 0, 100)).events

        await ports.tasks.purge(PROJECT, driven.task_id)

        feed = (await ports.tasks.feed(PROJECT, 0, 100)).events
        last = [item.event for item in feed if item.event.task_id == driven.task_id][-1]
        assert last.type in TERMINAL_EVENTS
        if state is TaskState.PAUSED:
            assert (last.type, last.reason) == (EventType.CANCELED, Reason.BY_REQUEST)
            assert last.sequence == before[-1].event.sequence + 1
        else:
            assert feed == before

    async def test_a_timeline_that_is_no_list_goes_too(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.PAUSED)
        key = f"{{{partition_of(PROJECT, 4)}}}:timeline:{PROJECT}/{driven.task_id}"
        await ports.run_in(TIMELINE, "redis.call('SET', KEYS[1], 'oops')", [key])

        await ports.tasks.purge(PROJECT, driven.task_id)

        assert key not in ports.raw().databases[3]
        assert await ports.task_in_queue() == 0

    @pytest.mark.parametrize("state", sorted(frozenset(TaskState) - TERMINAL_STATES - {TaskState.PAUSED}))
    async def test_a_live_task_is_not_purged(self, ports: Ports, state: TaskState) -> None:
        driven = await drive(ports, state)
        before = ports.raw()

        with pytest.raises(TaskRunning, match="Cancel or Pause it first") as refusal:
            await ports.tasks.purge(PROJECT, driven.task_id)

        assert refusal.value.state is state
        assert ports.raw().databases == before.databases

    async def test_another_project_cannot(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.COMPLETED)
        other = await ports.create_project("project1111111111")

        with pytest.raises(TaskNotFound):
            await ports.tasks.purge(other, driven.task_id)

        assert (await ports.tasks.get(PROJECT, driven.task_id)).state is TaskState.COMPLETED


class TestTimeline:
    async def test_it_is_read_from_any_sequence_in_pages(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.COMPLETED)
        whole = await ports.tasks.timeline(PROJECT, driven.task_id, 0, 100)
        assert [event.sequence for event in whole.events] == [1, 2, 3, 4]

        for after in range(5):
            part = await ports.tasks.timeline(PROJECT, driven.task_id, after, 2)
            assert list(part.events) == list(whole.events[after : after + 2])
            assert (part.task, part.first_sequence, part.last_sequence) == (whole.task, 1, 4)

    async def test_a_position_beyond_its_end_is_of_another_task(self, ports: Ports) -> None:
        driven = await drive(ports, TaskState.COMPLETED)

        with pytest.raises(CursorTooOld, match="has 4 events, none after sequence 5"):
            await ports.tasks.timeline(PROJECT, driven.task_id, 5, 10)


READS: dict[str, Callable[[Ports, str, str], Awaitable[object]]] = {
    "get": lambda ports, project, task: ports.tasks.get(project, task),
    "timeline": lambda ports, project, task: ports.tasks.timeline(project, task, 0, 10),
    "cancel": lambda ports, project, task: ports.tasks.cancel(project, task),
    "pause": lambda ports, project, task: ports.tasks.pause(project, task),
    "resume": lambda ports, project, task: ports.tasks.resume(project, task),
    "run": lambda ports, project, task: ports.tasks.run(project, task),
    "purge": lambda ports, project, task: ports.tasks.purge(project, task),
}


@pytest.mark.parametrize("call", READS)
async def test_a_task_that_is_not_there_or_not_yours(ports: Ports, call: str) -> None:
    """A tenant sees its own: another project's task is as absent as one that never was."""
    other = await ports.create_project("project1111111111")
    await ports.try_subscribe(NewTask(spec("a")), project_id=other)
    before = ports.raw()

    for project, task in ((PROJECT, "a"), (other, "never-was")):
        with pytest.raises(TaskNotFound) as refusal:
            await READS[call](ports, project, task)
        assert refusal.value.task_id == task

    assert ports.raw().databases == before.databases
