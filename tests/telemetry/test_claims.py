"""What a claim did besides claiming is told: by the store, by the scheduler, in numbers and in the log."""

import logging

import pytest
from prometheus_client import CollectorRegistry

from kuueri_grpc.dispatcher import GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.health import Health
from kuueri_grpc.engine.reporter import Reporter
from kuueri_grpc.engine.revocation import Revocations
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.engine.settings import EngineSettings
from kuueri_grpc.ports import LostAttempt
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.keys import partition_of
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from kuueri_grpc.telemetry.metrics import MetricsTelemetry
from tests.store.ports import HERE, PROJECT, Ports, spec

GIVES_UP_AT_ONCE = StoreSettings(partitions=4, max_losses=1)
LOST = LostAttempt(PROJECT, "lost", 1, Reason.LEASE_LOST)
GIVEN_UP = LostAttempt(PROJECT, "lost", 1, Reason.POISON)
#: It could not have been started in time: its deadline is over as soon as it is due.
TOO_LATE = Schedule(at_ms=0, start_deadline_ms=1)


async def lose(ports: Ports, task_id: str) -> None:
    """Claim a task and let the lease run out."""
    await ports.subscribe(spec(task_id))
    await ports.take(task_id, lease_ms=1)
    await ports.until(await ports.now_ms() + 2)


async def test_the_store_names_what_was_recovered_once(ports: Ports) -> None:
    await lose(ports, "lost")
    batch = await ports.look()
    assert (batch.recovered, batch.poisoned, batch.expired) == ([LOST], [], 0)
    assert [claim.task_id for claim in batch.claims] == ["lost"]
    batch = await ports.look()
    assert (batch.recovered, batch.poisoned, batch.expired) == ([], [], 0)


@pytest.mark.parametrize("store_settings", [GIVES_UP_AT_ONCE])
async def test_the_store_names_what_was_given_up(ports: Ports) -> None:
    await lose(ports, "lost")
    batch = await ports.look()
    assert (batch.recovered, batch.poisoned, batch.expired) == ([], [GIVEN_UP], 0)
    assert not batch.claims


async def test_the_store_counts_what_expired(ports: Ports) -> None:
    await ports.subscribe(spec("a", schedule=TOO_LATE), spec("b", schedule=TOO_LATE), spec("c"))
    batch = await ports.look()
    assert (batch.recovered, batch.poisoned, batch.expired) == ([], [], 2)
    assert [claim.task_id for claim in batch.claims] == ["c"]


@pytest.mark.parametrize("store_settings", [GIVES_UP_AT_ONCE])
async def test_the_scheduler_tells_of_it(
    ports: Ports, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await lose(ports, "lost")
    await ports.subscribe(spec("late", schedule=TOO_LATE))
    registry = CollectorRegistry()
    dispatcher = HttpDispatcher(GuardedTransport(TargetPolicy()), ports.clock)
    attempts = Attempts(dispatcher, Reporter(ports.execution), ports.clock, max_in_flight=10)
    async with StoreAddress(store_url).connect_for_signals() as client:
        bus = RedisSignalBus(client, ports.settings.partitions, HERE)
        scheduler = Scheduler(
            ports.execution,
            attempts,
            Revocations(bus, attempts, HERE),
            ports.clock,
            EngineSettings(),
            HERE,
            Health(),
            MetricsTelemetry(registry),
        )
        scheduler.wake(partition_of(PROJECT, ports.settings.partitions), 0)
        with caplog.at_level(logging.WARNING, "kuueri_grpc"):
            await scheduler.run_once()
    await dispatcher.aclose()
    assert registry.get_sample_value("kuueri_tasks_poisoned_total") == 1
    assert registry.get_sample_value("kuueri_tasks_expired_total") == 1
    assert registry.get_sample_value("kuueri_claim_tasks_count") == 1
    assert registry.get_sample_value("kuueri_claim_tasks_sum") == 0
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    named = {name: record.__dict__[name] for name in ("event", "project", "task", "attempt")}
    assert named == {"event": "task_poisoned", "project": PROJECT, "task": "lost", "attempt": 1}
