"""An outage of the store, as operators see it: on the admin endpoint and in the log."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.acceptance.caller import Project, after, post, register
from tests.acceptance.served import PATIENCE_S
from tests.outages.servers import NOT_SERVING, SERVING, Served, health, logged, serving
from tests.outages.valkeys import Valkey, running
from tests.telemetry.scrape import Numbers, get, scrape


class System:
    """A server with an admin endpoint on a store of its own, and a project with one task."""

    def __init__(self, valkey: Valkey, server: Served, channel: grpc.aio.Channel, project: Project) -> None:
        self.valkey = valkey
        self.server = server
        self.channel = channel
        self.project = project
        self.task_id = ""

    @property
    def admin(self) -> str:
        found = re.search(r"metrics and health are on (\S+)", self.server.log)
        assert found is not None, self.server.log
        return found[1]

    async def numbers(self) -> Numbers:
        return await scrape(self.admin)

    async def call_fails(self) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await self.project.get(self.task_id)
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE

    async def errors(self) -> dict[str, float]:
        """Return how many calls to the store have failed, by operation; asking is none of them."""
        seen = await scrape(self.admin, "/metrics?store=no")
        return defaultdict(float, seen.by("kuueri_store_errors_total", "operation"))

    async def tells(self, text: str) -> None:
        """Return when the server has logged something."""
        await logged(self.server.directory, text)

    def events(self, event: str) -> list[str]:
        return [line for line in self.server.log.splitlines() if f"event={event} " in f"{line} "]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    environment = {"TASKS_ADMIN_PORT": "0"}
    async with (
        running(tmp_path / "store") as valkey,
        serving(tmp_path / "server", valkey.url, environment) as (server, channel),
    ):
        system = System(valkey, server, channel, await register(channel))
        task = await system.project.subscribe(post("http://127.0.0.1:1/", schedule=after(3_600_000)))
        system.task_id = task.task_id
        yield system


async def is_out(system: System, kind: str, operation: str) -> None:
    """A call fails, in one operation of the store, and everything says why."""
    await system.call_fails()
    ready = await get(system.admin, "/readyz")
    assert ready.status == 503
    assert any(reason.startswith("store: ") for reason in ready.json()["reasons"])
    assert (await get(system.admin, "/healthz")).status == 200
    seen = await system.numbers()
    assert seen.sum("kuueri_ready") == 0
    assert not seen.has("kuueri_tasks_waiting")
    assert seen.sum("kuueri_store_errors_total", operation=operation, kind=kind) == 1
    assert seen.sum("kuueri_grpc_calls_total", method="TaskService/GetTask", code="UNAVAILABLE") == 1
    (began,) = [line for line in system.events("store_outage_began") if f"kind={kind}" in line]
    assert "instance=" in began
    assert system.events("not_serving")


async def is_back(system: System, kind: str) -> None:
    """The next call succeeds, and everything says so."""
    await system.project.get(system.task_id)
    assert (await get(system.admin, "/readyz")).status == 200
    seen = await system.numbers()
    assert (seen.sum("kuueri_ready"), seen.sum("kuueri_tasks_waiting")) == (1, 1)
    (ended,) = [line for line in system.events("store_outage_ended") if f"kind={kind}" in line]
    assert re.search(r" seconds=\d+\.\d", ended)


async def test_a_store_that_is_frozen(system: System) -> None:
    async with health(system.channel) as follow:
        system.valkey.freeze()
        await follow.becomes(NOT_SERVING)
        await is_out(system, "timeout", "get")
        system.valkey.thaw()
        await follow.becomes(SERVING)
        await is_back(system, "timeout")


async def test_a_store_that_is_killed(system: System) -> None:
    assert (await system.numbers()).sum("kuueri_signal_connections_total") == 1
    async with health(system.channel) as follow:
        system.valkey.kill()
        await follow.becomes(NOT_SERVING)
        # Without signals a token is looked up on every call.
        await is_out(system, "connection", "credential")
        await system.valkey.start()
        await follow.becomes(SERVING)
        await is_back(system, "connection")
    assert (await system.numbers()).sum("kuueri_signal_connections_total") >= 2
    assert system.events("signals_lost")
    assert system.events("signals_restored")
    assert system.events("serving")


async def test_an_idle_server_tells_that_its_store_is_gone(system: System) -> None:
    """Nobody calls, and the scrape leaves the store alone: the server's own look at it says so."""
    async with health(system.channel) as follow:
        system.valkey.kill()
        await follow.becomes(NOT_SERVING)
        await system.tells("event=store_outage_began kind=connection")
        async with asyncio.timeout(PATIENCE_S):
            while not (seen := await system.errors())["probe"] or not seen["announce"]:
                pass
        await system.valkey.start()
        await follow.becomes(SERVING)
        await system.tells("event=store_outage_ended kind=connection")


async def test_a_store_that_comes_back_empty(system: System) -> None:
    async with health(system.channel) as follow:
        system.valkey.kill()
        await follow.becomes(NOT_SERVING)
        system.valkey.lose_data()
        await system.valkey.start()
        await follow.becomes(SERVING)
    assert (await system.numbers()).sum("kuueri_store_epoch_changes_total") == 1
    assert len(system.events("epoch_changed")) == 1


async def test_a_store_whose_memory_is_full_refuses_what_is_new_alone(system: System) -> None:
    async with system.valkey.client() as client:
        await client.config_set("maxmemory", 1)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                await system.project.subscribe(post("http://127.0.0.1:1/"))
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
        await system.project.get(system.task_id)
        seen = await system.numbers()
        assert seen.sum("kuueri_store_errors_total", operation="subscribe", kind="oom") == 2
        assert seen.counted("kuueri_tasks_refused_total", "reason") == {"STORE_UNAVAILABLE": 2}
        assert seen.sum("kuueri_ready") == 1
        assert len(system.events("store_outage_began")) == 1
        assert not system.events("store_outage_ended")
        await client.config_set("maxmemory", 0)
    await system.project.subscribe(post("http://127.0.0.1:1/"))
    assert len(system.events("store_outage_ended")) == 1
