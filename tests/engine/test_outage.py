"""The store goes away and comes back: everything goes on by itself, and nothing is lost or done twice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import BusyLoadingError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.engine import backoff
from kuueri_grpc.engine.watch import Synced, TaskEvent
from kuueri_grpc.store import errors
from kuueri_grpc.store.embedded import EmbeddedValkey
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import Instance, instance, process, running, soon
from tests.store.invariants import check
from tests.store.ports import HOUR_MS, PROJECT, Ports, connected, spec

SETTINGS = StoreSettings(partitions=4)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A store of this test's own, which it may stop and freeze."""
    async with EmbeddedValkey(tmp_path / "data") as store:
        yield store


@pytest.fixture
async def own(store: EmbeddedValkey) -> AsyncIterator[Ports]:
    async with connected(store.url, SETTINGS) as ports:
        await ports.create_project()
        yield ports
    check(store.url, SETTINGS.partitions, SETTINGS.timeline_cap)


@pytest.fixture
async def here(own: Ports) -> AsyncIterator[Instance]:
    async with process(own) as here:
        yield here


async def state(ports: Ports, task_id: str) -> TaskState:
    return (await ports.tasks.get(PROJECT, task_id)).state


async def test_reports_wait_for_the_store_and_are_applied(
    store: EmbeddedValkey, own: Ports, here: Instance
) -> None:
    await own.subscribe(*(spec(f"t{n}") for n in range(5)))
    for _ in range(5):
        await here.dispatcher.started()

    await store.aclose()
    for n in range(5):
        here.dispatcher.answer(f"t{n}")
    await store.start()
    await soon(here.attempts.drained())

    for n in range(5):
        assert await state(own, f"t{n}") is TaskState.COMPLETED
    assert len(here.dispatcher.sent) == 5


async def test_dispatch_goes_on_by_itself(store: EmbeddedValkey, own: Ports, here: Instance) -> None:
    """With what waited before, and with what is subscribed afterwards."""
    await own.subscribe(spec("before", schedule=Schedule(delay_ms=HOUR_MS)))

    await store.aclose()
    with pytest.raises(StoreUnavailable):
        await own.tasks.get(PROJECT, "before")
    await store.start()
    await own.tasks.run(PROJECT, "before")
    await own.subscribe(spec("after"))

    assert {(await here.dispatcher.started()).task_id for _ in range(2)} == {"before", "after"}


async def test_what_fell_due_while_it_was_away_runs(
    store: EmbeddedValkey, own: Ports, here: Instance
) -> None:
    await own.subscribe(spec("a", schedule=Schedule(delay_ms=100)))
    await store.aclose()
    await store.start()

    assert (await here.dispatcher.started()).task_id == "a"


async def test_a_watch_goes_on_where_it_was(store: EmbeddedValkey, own: Ports, here: Instance) -> None:
    await own.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    watch = here.hub.watch(PROJECT, "a", None)
    async for item in watch:
        if isinstance(item, Synced):
            break

    await store.aclose()
    await store.start()
    await own.tasks.pause(PROJECT, "a")

    # While the store is away a watch may end with the outage; then its client resumes it.
    try:
        item = await soon(anext(watch))
    except StoreUnavailable:
        watch = here.hub.watch(PROJECT, "a", 1)
        item = await soon(anext(watch))
        while not isinstance(item, TaskEvent):
            item = await soon(anext(watch))
    assert item.sequence == 2
    await watch.aclose()


async def test_a_frozen_store_is_an_outage_and_is_got_over(
    store: EmbeddedValkey, own: Ports, here: Instance
) -> None:
    """Its sockets stay open, and nothing answers."""
    await own.subscribe(spec("a"))
    await here.dispatcher.started()
    os.kill(store.pid, signal.SIGSTOP)
    try:
        here.dispatcher.answer("a")
        with pytest.raises(StoreUnavailable):
            await own.tasks.get(PROJECT, "a")
    finally:
        os.kill(store.pid, signal.SIGCONT)
    await soon(here.attempts.drained())

    assert await state(own, "a") is TaskState.COMPLETED


async def test_no_loop_ends_while_it_is_away(store: EmbeddedValkey, own: Ports) -> None:
    async with instance(own) as here:
        loops = [
            asyncio.ensure_future(loop)
            for loop in (
                here.switchboard.run(),
                here.monitor.run(),
                here.scheduler.run(),
                here.reporter.run(),
                here.keeper.run(),
            )
        ]
        await soon(here.monitor.caught_up())
        for _ in range(3):
            await store.aclose()
            await store.start()
        await own.subscribe(spec("a"))
        await here.dispatcher.started()

        assert not [loop for loop in loops if loop.done()]
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)


async def test_what_changed_while_it_loaded_its_data_is_caught_up_with(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store takes subscriptions before it answers anything else: the first look fails then."""
    monkeypatch.setattr(backoff, "_FIRST_S", 0.001)

    class Loading(RedisExecutionStore):
        looks = 3

        async def next_due(self) -> dict[int, int]:
            if self.looks:
                self.looks -= 1
                with errors.outages_mapped():
                    raise BusyLoadingError
            return await super().next_due()

    await ports.subscribe(spec("a"))
    loading = Loading(*ports.execution_parts)
    async with (
        instance(ports, execution=loading) as here,
        running(here.switchboard.run(), here.monitor.run(), here.scheduler.run(), here.reporter.run()),
    ):
        await soon(here.monitor.caught_up())

        assert (await here.dispatcher.started()).task_id == "a"
