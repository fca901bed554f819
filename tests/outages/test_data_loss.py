"""The store comes back, and is not what it was."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
from redis.asyncio import Redis

from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from tests.acceptance.caller import register, types
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import now_ms, passed
from tests.outages.calls import ONE_ATTEMPT, refused_by_outage, subscribe_all, task_to
from tests.outages.conftest import System
from tests.outages.servers import NOT_SERVING, SERVING, health
from tests.service.statuses import refusal

#: How long a credential is believed without asking the store.
CREDENTIAL_CACHE_MS = 5_000
HOUR_MS = 3_600_000


async def epoch(store: Redis) -> str:
    kept = await store.hget("kuueri:store", "epoch")
    assert isinstance(kept, bytes)
    return kept.decode()


async def test_store_comes_back_empty(system: System) -> None:
    valkey, project, target = system.valkey, system.project, system.target
    (task_id,) = await subscribe_all(project, target, "/lost", 1, delay_ms=HOUR_MS)
    async with valkey.client() as store:
        epoch_before = await epoch(store)
    async with health(system.channel) as checks, aclosing(project.watch(task_id)) as watch:
        token = await synced(watch)
        ending = asyncio.create_task(refusal(watch))
        valkey.kill()
        await checks.becomes(NOT_SERVING)
        valkey.lose_data()
        await valkey.start()
        await checks.becomes(SERVING)
        empty_since_ms = now_ms()
        # A watch that was open: whichever is missed first, the task or the credentials of its caller.
        assert (await ending).code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED}
        # And the token of one that was not; its caller may be remembered for a moment.
        too_old = await refusal(project.watch(task_id, resume_token=token))
        assert too_old.code in {grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNAUTHENTICATED}
    async with valkey.client() as store:
        epoch_now = await epoch(store)
    assert epoch_now != epoch_before
    (line,) = [line for line in system.server.log.splitlines() if "has lost its data" in line]
    assert "ERROR" in line
    assert epoch_before in line
    assert epoch_now in line
    # Scripts are loaded anew, and the server does as it should on the new data.
    newcomer = await register(system.channel)
    task = await newcomer.subscribe(task_to(target, "/new"))
    _, events = await newcomer.ended(task.task_id)
    assert types(events) == ONE_ATTEMPT
    await passed(empty_since_ms + CREDENTIAL_CACHE_MS)
    assert (await refusal(project.get(task_id))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_data_deleted_while_connected(system: System) -> None:
    """FLUSHALL by mistake: no connection breaks."""
    valkey, project, target = system.valkey, system.project, system.target
    (task_id,) = await subscribe_all(project, target, "/lost", 1, delay_ms=HOUR_MS)
    async with aclosing(project.watch(task_id)) as watch, valkey.client() as store:
        await synced(watch)
        epoch_before = await epoch(store)
        await store.flushall()
        assert (await refusal(watch)).code is grpc.StatusCode.NOT_FOUND
        # The watch may find it out before the server's next look at the store, which makes it ours anew.
        async with asyncio.timeout(PATIENCE_S):
            while not await store.hexists("kuueri:store", "schema"):  # noqa: ASYNC110  nobody signals it
                await asyncio.sleep(0.02)
        assert await epoch(store) != epoch_before


async def test_store_comes_back_with_older_data(system: System, tmp_path: Path) -> None:
    """A backup is restored, or a fail-over has lost writes: numbers are given out a second time."""
    valkey, project, target = system.valkey, system.project, system.target
    backup = tmp_path / "backup"
    async with health(system.channel) as checks:
        first = await subscribe_all(project, target, "/kept", 2, delay_ms=HOUR_MS)
        async with aclosing(project.watch_all()) as watch:
            kept = await synced(watch)
        valkey.kill()
        shutil.copytree(valkey.directory, backup)
        await checks.becomes(NOT_SERVING)
        await valkey.start()
        await checks.becomes(SERVING)

        async with aclosing(project.watch_all()) as watch:
            await synced(watch)
            lost = await subscribe_all(project, target, "/gone", 3, delay_ms=HOUR_MS)
            told = [message async for message in head(watch, 3)]
            assert [message.event.task_id for message in told] == lost

            valkey.kill()
            shutil.rmtree(valkey.directory)
            shutil.move(backup, valkey.directory)
            await checks.becomes(NOT_SERVING)
            await valkey.start()
            await checks.becomes(SERVING)
            since = await subscribe_all(project, target, "/since", 5, delay_ms=HOUR_MS)
            # The watch that was open, and tokens of places that are not there any more.
            assert (await refusal(watch)).code is grpc.StatusCode.OUT_OF_RANGE
    for message in told:
        refused = await refusal(project.watch_all(message.resume_token))
        assert refused.code is grpc.StatusCode.OUT_OF_RANGE
    # From before the backup it goes on, without a gap.
    async with aclosing(project.watch_all(kept)) as watch:
        missed = [message async for message in head(watch, 5)]
    assert [message.event.task_id for message in missed] == since
    assert {task.task_id for task in (await project.list()).tasks} == {*first, *since}


async def head(
    watch: AsyncIterator[tasks_pb.WatchResponse], count: int
) -> AsyncIterator[tasks_pb.WatchResponse]:
    """Read that many messages."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in watch:
            yield message
            count -= 1
            if not count:
                return


async def synced(watch: AsyncIterator[tasks_pb.WatchResponse]) -> str:
    """Read a watch up to where it is live; return the token for that place."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in watch:
            if message.WhichOneof("message") == "synced":
                return str(message.resume_token)
    raise AssertionError("the watch has ended")


async def test_store_comes_back_with_other_partitions(system: System) -> None:
    valkey, project, target = system.valkey, system.project, system.target
    async with health(system.channel) as checks, valkey.client() as store:
        partitions = await store.hget("kuueri:store", "partitions")
        assert partitions is not None
        await store.hset("kuueri:store", "partitions", "1024")
        await checks.becomes(NOT_SERVING)
        refused = await refused_by_outage(project.subscribe(task_to(target, "/refused")))
        assert "not fit" in refused.text
        assert "initialised with 1024 partitions, this server is set to 8" in system.server.log
        await store.hset("kuueri:store", "partitions", partitions)
        await checks.becomes(SERVING)
    await project.subscribe(task_to(target, "/accepted"))
    await target.received("/accepted")


async def test_evicting_policy_set_on_the_running_store(system: System) -> None:
    valkey, project, target = system.valkey, system.project, system.target
    async with health(system.channel) as checks, valkey.client() as store:
        await store.config_set("maxmemory-policy", "allkeys-lru")
        await checks.becomes(NOT_SERVING)
        await refused_by_outage(project.subscribe(task_to(target, "/refused")))
        assert "maxmemory-policy is 'allkeys-lru'" in system.server.log
        await store.config_set("maxmemory-policy", "noeviction")
        await checks.becomes(SERVING)
    await project.subscribe(task_to(target, "/accepted"))
    await target.received("/accepted")
