"""The store answers, and refuses: each refusal is an outage, and none ends the server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.acceptance.caller import state_name, types
from tests.acceptance.targets import held, now_ms, passed
from tests.outages.calls import ONE_ATTEMPT, assert_each_ran_once, refused_by_outage, subscribe_all, task_to
from tests.outages.conftest import System
from tests.outages.servers import LEASE_MS, NOT_SERVING, SERVING, health
from tests.outages.valkeys import Valkey

Refusing = Callable[[Valkey], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def misconf(valkey: Valkey) -> AsyncIterator[None]:
    """It cannot write its snapshot: the directory is gone."""
    directory = valkey.directory / "gone"
    directory.mkdir()
    async with valkey.client() as store:
        await store.config_set("appendonly", "no")
        await store.config_set("save", "3600 1")
        await store.config_set("dir", str(directory))
        directory.rmdir()
        assert await snapshot(store) == "err"
        yield
        await store.config_set("dir", str(valkey.directory))
        assert await snapshot(store) == "ok"


async def snapshot(store: Redis) -> str:
    """Have a snapshot made in the background; return what came of it."""
    await store.bgsave()
    while (state := await store.info("persistence"))["rdb_bgsave_in_progress"]:
        pass
    return str(state["rdb_last_bgsave_status"])


@asynccontextmanager
async def noreplicas(valkey: Valkey) -> AsyncIterator[None]:
    async with valkey.client() as store:
        await store.config_set("min-replicas-to-write", 1)
        yield
        await store.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def replica(valkey: Valkey) -> AsyncIterator[None]:
    """It was demoted, to a replica of a server that is not there."""
    async with valkey.client() as store:
        await store.replicaof("127.0.0.1", 1)
        yield
        await store.replicaof("NO", "ONE")


@asynccontextmanager
async def busy(valkey: Valkey) -> AsyncIterator[None]:
    """Somebody runs a script without end."""
    async with valkey.client() as store, valkey.client() as other:
        await store.config_set("busy-reply-threshold", 20)
        endless = asyncio.ensure_future(other.eval("while true do end", 0))
        while not endless.done():
            try:
                await store.get("anything")
            except ResponseError:
                break
        yield
        await store.script_kill()
        with pytest.raises(ResponseError):
            await endless


@asynccontextmanager
async def silent(valkey: Valkey) -> AsyncIterator[None]:
    """It holds back whatever may write, without a word."""
    async with valkey.client() as store:
        await store.client_pause(timeout=3_600_000, all=False)
        yield
        await store.client_unpause()


@pytest.mark.parametrize("refusing", [misconf, noreplicas, replica, busy, silent])
async def test_every_refusal_is_an_outage(system: System, refusing: Refusing) -> None:
    valkey, project, target = system.valkey, system.project, system.target
    answers = asyncio.Event()
    target.script("/held/0", held(answers))
    in_flight = await subscribe_all(project, target, "/held", 1, delay_ms=0)
    await target.received("/held/0")
    waiting = await subscribe_all(project, target, "/later", 5, delay_ms=500)
    async with health(system.channel) as checks:
        async with refusing(valkey):
            began_ms = now_ms()
            await refused_by_outage(project.subscribe(task_to(target, "/refused")))
            await checks.becomes(NOT_SERVING)
            answers.set()
            await passed(began_ms + LEASE_MS)
        await checks.becomes(SERVING)
    await assert_each_ran_once(project, target, "/held", in_flight)
    await assert_each_ran_once(project, target, "/later", waiting)
    assert target.at("/refused") == []


async def test_store_oom(system: System) -> None:
    """Nothing new is accepted; all that was accepted goes on, and can be read and cancelled."""
    valkey, project, target = system.valkey, system.project, system.target
    answers = asyncio.Event()
    target.script("/held/0", held(answers))
    in_flight = await subscribe_all(project, target, "/held", 1, delay_ms=0)
    await target.received("/held/0")
    waiting = await subscribe_all(project, target, "/later", 5, delay_ms=1_000)
    paused, cancelled = await subscribe_all(project, target, "/never", 2, delay_ms=3_600_000)
    async with valkey.client() as store:
        await store.config_set("maxmemory", 1)
        refused = await refused_by_outage(project.subscribe(task_to(target, "/refused")))
        assert "memory is full" in refused.text
        answers.set()
        await assert_each_ran_once(project, target, "/held", in_flight)
        await assert_each_ran_once(project, target, "/later", waiting)
        assert state_name(await project.pause(paused)) == "PAUSED"
        assert state_name(await project.resume(paused)) == "SCHEDULED"
        assert state_name(await project.cancel(cancelled)) == "CANCELED"
        assert len((await project.list()).tasks) == 8
        # A secret that became known must be replaced, whatever else is going on.
        assert await project.rotate_signing_secret() != project.signing_secret
        await store.config_set("maxmemory", 0)
    accepted = await project.subscribe(task_to(target, "/accepted"))
    _, events = await project.ended(accepted.task_id)
    assert types(events) == ONE_ATTEMPT
