"""What is done now and then: the sweep, and the net under the signals."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.engine.maintenance import Maintenance
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.settings import StoreSettings
from tests.engine.parts import Instance, instance, running, soon
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

INTERVAL_MS = 5


@pytest.fixture
async def unheard(ports: Ports) -> AsyncIterator[Instance]:
    """An engine that hears no signals."""
    async with instance(ports) as here, running(here.scheduler.run(), here.reporter.run()):
        yield here


async def test_a_wake_up_that_was_lost_is_made_up_for(ports: Ports, unheard: Instance) -> None:
    async with running(Maintenance(ports.execution, unheard.scheduler, unheard.projects, INTERVAL_MS).run()):
        for n in range(3):
            await ports.subscribe(spec(f"t{n}"))
            assert (await unheard.dispatcher.started()).task_id == f"t{n}"


@pytest.mark.parametrize("store_settings", [StoreSettings(partitions=4, history_ms=1)])
async def test_what_has_expired_is_swept(ports: Ports, unheard: Instance) -> None:
    await ports.subscribe(spec("a"))
    await ports.report((await ports.take("a")).lease, Trigger.COMPLETE)
    assert ports.raw().names_with(":ended")

    async with running(Maintenance(ports.execution, unheard.scheduler, unheard.projects, INTERVAL_MS).run()):
        while ports.raw().names_with(":ended"):
            await ports.until(await ports.now_ms() + 1)

    assert not ports.raw().names_with(":index:")


async def test_a_deletion_that_broke_off_is_finished(ports: Ports, unheard: Instance) -> None:
    await ports.subscribe(spec("a"), spec("b", schedule=Schedule(delay_ms=HOUR_MS)))
    await ports.projects.close(PROJECT)

    async with running(Maintenance(ports.execution, unheard.scheduler, unheard.projects, INTERVAL_MS).run()):
        while ports.raw().names_with(PROJECT):
            await ports.until(await ports.now_ms() + 1)


async def test_a_deletion_that_takes_long_holds_up_nothing_else(
    ports: Ports, unheard: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(unheard.projects, "finish_deletions", for_ever)
    async with running(Maintenance(ports.execution, unheard.scheduler, unheard.projects, INTERVAL_MS).run()):
        await ports.subscribe(spec("a"))
        assert (await soon(unheard.dispatcher.started())).task_id == "a"


async def test_an_outage_does_not_end_it(ports: Ports, unheard: Instance) -> None:
    class Unavailable(RedisExecutionStore):
        outages = 3

        async def sweep(self) -> None:
            if self.outages:
                self.outages -= 1
                raise StoreUnavailable("not now")
            await super().sweep()

    store = Unavailable(*ports.execution_parts)
    async with running(Maintenance(store, unheard.scheduler, unheard.projects, INTERVAL_MS).run()):
        while store.outages:
            await ports.until(await ports.now_ms() + 1)
        await ports.subscribe(spec("a"))

        assert (await unheard.dispatcher.started()).task_id == "a"
