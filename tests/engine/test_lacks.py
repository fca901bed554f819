"""The process lacks file descriptors or memory for a while: no loop ends, and every attempt counts once."""

import asyncio
import errno
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.engine import backoff, leases
from kuueri_grpc.engine.maintenance import Maintenance
from kuueri_grpc.engine.membership import Membership
from kuueri_grpc.ports import ANY_ROOM, ClaimBatch, Instance, Lease, Renewal, Report, Room, Sighting
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.instances import RedisInstanceRegistry
from tests.engine.parts import instance, running, soon
from tests.store.ports import PROJECT, Ports, spec

LACKS = 2
LEASE_MS = 600


class Lacking:
    """Raises what a process meets that has no descriptor left, the first times that each call is made."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._over: dict[str, asyncio.Event] = {}

    def meet(self, call: str) -> None:
        self.calls[call] += 1
        if self.calls[call] <= LACKS:
            raise OSError(errno.EMFILE, "Too many open files", "report.lua")
        self.over(call).set()

    def over(self, call: str) -> asyncio.Event:
        return self._over.setdefault(call, asyncio.Event())


class LackingStore(RedisExecutionStore):
    lacking: Lacking

    async def claim(
        self,
        limits: Mapping[int, int],
        instance: str,
        lease_ms: int,
        room: Room = ANY_ROOM,
    ) -> list[ClaimBatch]:
        self.lacking.meet("claim")
        return await super().claim(limits, instance, lease_ms, room)

    async def report(self, reports: Sequence[Report]) -> list[bool | None]:
        self.lacking.meet("report")
        return await super().report(reports)

    async def renew(self, leases: Sequence[Lease], lease_ms: int) -> Renewal:
        self.lacking.meet("renew")
        return await super().renew(leases, lease_ms)

    async def next_due(self) -> dict[int, int]:
        self.lacking.meet("next_due")
        return await super().next_due()

    async def sweep(self) -> None:
        self.lacking.meet("sweep")
        await super().sweep()


class LackingRegistry(RedisInstanceRegistry):
    lacking: Lacking

    async def announce(self, instance: Instance) -> Sequence[Sighting]:
        self.lacking.meet("announce")
        return await super().announce(instance)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "_FIRST_S", 0.001)
    monkeypatch.setattr(leases, "_LONGEST_WAIT_MS", 1)
    monkeypatch.setattr("kuueri_grpc.engine.membership._HEARTBEAT_S", 0.001)


async def test_no_loop_ends_for_want_of_a_descriptor(ports: Ports) -> None:
    lacking = Lacking()
    store = LackingStore(*ports.execution_parts)
    store.lacking = lacking
    registry = LackingRegistry(ports.client)
    registry.lacking = lacking
    me = Instance("here", "1.0", "host", 7, ("api", "scheduler"), 1, 0, 0)
    async with instance(ports, execution=store, lease_ms=LEASE_MS) as here:
        membership = Membership(registry, here.attempts, here.scheduler, me, ports.settings.partitions)
        maintenance = Maintenance(store, here.scheduler, here.projects, 1)
        async with running(
            here.switchboard.run(),
            here.monitor.run(),
            here.scheduler.run(),
            here.reporter.run(),
            here.keeper.run(),
            membership.run(),
            maintenance.run(),
        ):
            await soon(here.monitor.caught_up())
            await ports.subscribe(spec("a"))
            await here.dispatcher.started()
            await soon(lacking.over("renew").wait())
            here.dispatcher.answer("a")
            await soon(here.attempts.drained())
            for call in ("claim", "report", "renew", "next_due", "sweep", "announce"):
                await soon(lacking.over(call).wait())

    task = await ports.tasks.get(PROJECT, "a")
    assert task.state is TaskState.COMPLETED
    assert task.attempt_count == 1
    assert len(here.dispatcher.sent) == 1
