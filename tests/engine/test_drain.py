"""The end of an instance with attempts in flight, on a real store."""

import asyncio
from collections.abc import Sequence

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.timeline import EventType
from kuueri_grpc.engine.drain import Drain
from kuueri_grpc.ports import Report
from kuueri_grpc.store.execution import RedisExecutionStore
from tests.engine.parts import instance, running, soon
from tests.store.ports import PROJECT, Ports, spec


class SlowReports(RedisExecutionStore):
    """The real store, where reports wait for a gate."""

    gate: asyncio.Event
    asked: asyncio.Event

    @classmethod
    def of(cls, ports: Ports) -> "SlowReports":
        store = cls(*ports.execution_parts)
        store.gate, store.asked = asyncio.Event(), asyncio.Event()
        return store

    async def report(self, reports: Sequence[Report]) -> list[bool | None]:
        self.asked.set()
        await self.gate.wait()
        return await super().report(reports)


async def test_an_outcome_that_is_known_is_reported_and_its_task_not_sent_again(ports: Ports) -> None:
    store = SlowReports.of(ports)
    await ports.subscribe(spec("answered"), spec("slow"))
    async with instance(ports, execution=store) as here, running(here.reporter.run()):
        for claim in await ports.claim():
            here.attempts.start(claim, float("inf"))
            await here.dispatcher.started()
        here.dispatcher.answer("answered")
        await soon(store.asked.wait())

        async def report_once_the_slow_one_is_aborted() -> None:
            while not here.dispatcher.aborted:  # noqa: ASYNC110 - nobody signals it
                await asyncio.sleep(0)
            store.gate.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(report_once_the_slow_one_is_aborted())
            group.create_task(Drain(here.scheduler, here.hub, here.attempts, store).finish(0))

    assert (await ports.tasks.get(PROJECT, "answered")).state is TaskState.COMPLETED
    assert EventType.RECOVERED not in await ports.events("answered")
    assert (await ports.events("slow"))[-1] is EventType.RECOVERED
    assert [claim.task_id for claim in await ports.claim()] == ["slow"]
