"""The store is killed, or frozen with its sockets open, and goes on with its data."""

import asyncio

import pytest

from tests.acceptance.targets import held, now_ms, passed
from tests.outages.calls import assert_each_ran_once, refused_by_outage, subscribe_all, task_to
from tests.outages.conftest import System
from tests.outages.servers import LEASE_MS, NOT_SERVING, SERVING, health


@pytest.mark.parametrize("system", [{}, {"TASKS_WORKERS": "2"}], indirect=True, ids=["one", "two"])
async def test_store_killed_and_restarted_with_its_aof(system: System) -> None:
    """Leases run out meanwhile; whichever process has them renews them before any other claims."""
    valkey, project, target = system.valkey, system.project, system.target
    answers = asyncio.Event()
    for i in range(20):
        target.script(f"/held/{i}", held(answers))
    in_flight = await subscribe_all(project, target, "/held", 20, delay_ms=0)
    for i in range(20):
        await target.received(f"/held/{i}")
    waiting = await subscribe_all(project, target, "/later", 20, delay_ms=500)
    async with health(system.channel) as checks:
        valkey.kill()
        killed_ms = now_ms()
        await checks.becomes(NOT_SERVING)
        await refused_by_outage(project.subscribe(task_to(target, "/refused")))
        answers.set()
        # Long enough for the lease to run out, and for the others to have been due.
        await passed(killed_ms + LEASE_MS)
        await valkey.start()
        await checks.becomes(SERVING)
    await assert_each_ran_once(project, target, "/held", in_flight)
    await assert_each_ran_once(project, target, "/later", waiting)
    # What was refused was not accepted.
    assert len((await project.list()).tasks) == len(in_flight) + len(waiting)
    assert target.at("/refused") == []


async def test_store_frozen(system: System) -> None:
    valkey, project, target = system.valkey, system.project, system.target
    answers = asyncio.Event()
    target.script("/held/0", held(answers))
    in_flight = await subscribe_all(project, target, "/held", 1, delay_ms=0)
    await target.received("/held/0")
    waiting = await subscribe_all(project, target, "/later", 20, delay_ms=300)
    async with health(system.channel) as checks:
        valkey.freeze()
        frozen_ms = now_ms()
        refused = await refused_by_outage(project.get(in_flight[0]))
        assert "does not answer" in refused.text
        await checks.becomes(NOT_SERVING)
        answers.set()
        await passed(frozen_ms + LEASE_MS)
        valkey.thaw()
        await checks.becomes(SERVING)
    await assert_each_ran_once(project, target, "/held", in_flight)
    await assert_each_ran_once(project, target, "/later", waiting)


@pytest.mark.parametrize("valkey", [{"appendonly": "no"}], indirect=True)
async def test_store_loading_for_long(system: System) -> None:
    """It takes connections while it loads, so that signals arrive long before anything else works."""
    valkey, project, target = system.valkey, system.project, system.target
    waiting = await subscribe_all(project, target, "/later", 60, delay_ms=4_000)
    async with health(system.channel) as checks:
        async with valkey.client() as store:
            await store.save()
        valkey.kill()
        await checks.becomes(NOT_SERVING)
        # Microseconds per key; between keys it answers.
        valkey.options |= {"key-load-delay": 10_000, "loading-process-events-interval-bytes": 1_024}
        await valkey.start()
        refused = await refused_by_outage(project.subscribe(task_to(target, "/refused")))
        assert "loading" in refused.text
        await checks.becomes(SERVING)
    await assert_each_ran_once(project, target, "/later", waiting)
