"""The client of the store and its connections, without a server around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.ports import Disconnected, Due, Reconnected, Signal
from kuueri_grpc.store import signals
from kuueri_grpc.store.client import StoreClient
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.signals import RedisSignalBus
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import now_ms, passed
from tests.outages.proxy import between
from tests.outages.valkeys import Valkey, running
from tests.store.ports import PROJECT, Ports, connected, spec

TIMEOUT_MS = 300
#: Commands at a time.
MANY = 200


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[StoreClient]:
    async with StoreAddress(valkey.url, timeout_ms=TIMEOUT_MS).connect() as client:
        assert isinstance(client, StoreClient)
        yield client


@pytest.fixture
async def patient(valkey: Valkey) -> AsyncIterator[StoreClient]:
    """A client for commands that are to be answered, however busy this machine is."""
    async with StoreAddress(valkey.url, timeout_ms=int(PATIENCE_S * 1_000)).connect() as client:
        assert isinstance(client, StoreClient)
        yield client


async def test_many_commands_need_one_connection(valkey: Valkey, patient: StoreClient) -> None:
    async with valkey.client() as store:
        before = (await store.info("stats"))["total_connections_received"]
        assert await asyncio.gather(*(patient.get("key") for _ in range(MANY))) == [None] * MANY
        assert (await store.info("stats"))["total_connections_received"] == before + 1


async def test_cancelled_commands_take_no_answer_from_others(valkey: Valkey, patient: StoreClient) -> None:
    for _ in range(3):
        calls = [asyncio.ensure_future(patient.execute_command("ECHO", str(n))) for n in range(MANY)]
        await asyncio.sleep(0)  # they are sent
        for call in calls[::3]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for n, answer in enumerate(answers):
            if n % 3:
                assert answer == str(n).encode()
            else:
                assert isinstance(answer, asyncio.CancelledError)


async def test_an_error_is_of_one_command_alone(patient: StoreClient) -> None:
    await patient.set("text", "value")
    results = await asyncio.gather(
        patient.get("text"), patient.lpush("text", "x"), patient.get("text"), return_exceptions=True
    )
    assert results[0] == results[2] == b"value"
    assert isinstance(results[1], ResponseError)


async def test_all_who_wait_on_a_frozen_server_are_told(valkey: Valkey, client: StoreClient) -> None:
    """Those of the connection that is open, those that came later, and those that have to open one."""
    await answer_of(lambda: client.execute_command("GET", "key"))
    valkey.freeze()
    try:
        for _ in range(2):
            told = await asyncio.gather(*(client.get("key") for _ in range(MANY)), return_exceptions=True)
            assert {type(error) for error in told} == {TimeoutError}
    finally:
        valkey.thaw()
    assert await answer_of(lambda: client.execute_command("GET", "key")) is None


async def answer_of(call: Callable[[], Awaitable[object]]) -> object:
    """Return the answer when there is one: a busy machine may take longer than this client waits."""
    while True:
        with suppress(TimeoutError):
            return await call()


async def test_a_silent_connection_is_left(valkey: Valkey, client: StoreClient) -> None:
    """It may be the network between, which forgot it: what follows is not to wait as long again."""
    connection = await answer_of(lambda: client.execute_command("CLIENT ID"))
    valkey.freeze()
    try:
        with pytest.raises(TimeoutError):
            await client.execute_command("CLIENT ID")
    finally:
        valkey.thaw()
    assert await answer_of(lambda: client.execute_command("CLIENT ID")) != connection


async def test_what_is_under_way_fails_when_the_client_is_closed(valkey: Valkey) -> None:
    client = StoreAddress(valkey.url).connect()
    async with client:
        await client.get("key")
        valkey.freeze()
        calls = [asyncio.ensure_future(client.execute_command("GET", "key")) for _ in range(MANY)]
        await asyncio.sleep(0)
        try:
            assert isinstance(client, StoreClient)
            await client._line.aclose()
        finally:
            valkey.thaw()
        # They are repeated, on another connection.
        assert await asyncio.gather(*calls) == [None] * MANY


async def test_refused_connection_is_an_outage(valkey: Valkey, client: StoreClient) -> None:
    valkey.kill()
    with pytest.raises(StoreUnavailable, match="cannot be reached"), outages_mapped():
        await client.get("key")


async def test_broken_connections_are_replaced_without_a_word(valkey: Valkey, patient: StoreClient) -> None:
    await asyncio.gather(*(patient.ping() for _ in range(MANY)))
    valkey.kill()
    await valkey.start()
    assert all(await asyncio.gather(*(patient.ping() for _ in range(MANY))))


async def test_demoted_server_is_left(tmp_path: Path, valkey: Valkey) -> None:
    """Also by a pipeline, which has the refusals among its answers; connections to it stay open."""
    script = "return redis.call('SET', KEYS[1], 1)"
    async with running(tmp_path / "promoted") as promoted, between(valkey.port) as address:
        for server in (valkey, promoted):
            async with server.client() as store:
                sha = await store.script_load(script)
        async with StoreAddress(address.url).connect_for_checks() as client:

            async def write() -> list[object]:
                batch = client.pipeline(transaction=False)
                for key in ("a", "b"):
                    _ = batch.evalsha(sha, 1, key)
                return list(await batch.execute(raise_on_error=False))

            assert await write() == [b"OK", b"OK"]
            async with valkey.client() as store:
                await store.replicaof("127.0.0.1", 1)
            address.upstream = promoted.port
            assert [type(answer) for answer in await write()] == [ReadOnlyError, ReadOnlyError]
            assert await write() == [b"OK", b"OK"]


@pytest.fixture
async def ports(valkey: Valkey) -> AsyncIterator[Ports]:
    settings = StoreSettings(partitions=1, call_timeout_ms=TIMEOUT_MS)
    async with connected(valkey.url, settings) as ports:
        await ports.create_project()
        yield ports


async def test_claim_that_comes_too_late_takes_nothing(valkey: Valkey, ports: Ports) -> None:
    """A frozen store finds it in a socket when it goes on; who sent it has long given up."""
    # The store has the script from now on, and its time is known here.
    assert not await ports.claim()
    await ports.subscribe(spec("task", schedule=Schedule(delay_ms=1)))
    await ports.until(await ports.now_ms() + 1)
    async with valkey.client() as store:
        calls_before = await script_calls(store)
        valkey.freeze()
        with pytest.raises(StoreUnavailable):
            await ports.claim()
        await passed(now_ms() + TIMEOUT_MS)
        valkey.thaw()
        async with asyncio.timeout(PATIENCE_S):
            # It may find this question before the claim: they are in sockets of their own.
            while await script_calls(store) < calls_before + 1:
                pass
    assert (await ports.tasks.get(PROJECT, "task")).state is TaskState.SCHEDULED
    (claim,) = await ports.claim()
    assert claim.attempt == 1


@pytest.mark.parametrize("fault", ["frozen", "killed", "memory is full"])
async def test_subscribes_that_share_a_call_are_each_told(valkey: Valkey, ports: Ports, fault: str) -> None:
    await ports.subscribe(spec("before"))
    async with valkey.client() as store:
        match fault:
            case "frozen":
                valkey.freeze()
            case "killed":
                valkey.kill()
            case _:
                await store.config_set("maxmemory", 1)
        calls = [ports.subscribe(spec(f"t{n}")) for n in range(MANY)]
        told = await asyncio.gather(*calls, return_exceptions=True)
        match fault:
            case "frozen":
                valkey.thaw()
            case "killed":
                await valkey.start()
            case _:
                await store.config_set("maxmemory", 0)
    assert {type(error) for error in told} == {StoreUnavailable}
    assert len({id(error) for error in told}) == MANY


async def script_calls(store: Redis) -> int:
    return int((await store.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def next_signal(listening: AsyncIterator[Signal]) -> Signal:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(listening)


async def test_silent_store_is_noticed_by_who_waits_for_signals(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_SILENCE_S", 0.1)
    async with StoreAddress(valkey.url).connect_for_signals() as client:
        bus = RedisSignalBus(client, partitions=1, instance="here")
        async with aclosing(bus.listen()) as listening:  # type: ignore[type-var]  # a generator, which closes
            assert await next_signal(listening) == Reconnected()
            valkey.freeze()
            lost = await next_signal(listening)
            assert isinstance(lost, Disconnected)
            assert "no answer to a PING" in lost.why
            with pytest.raises(StoreUnavailable):
                await bus.follow(PROJECT, "task")
            valkey.thaw()
            assert await next_signal(listening) == Reconnected()


async def test_silence_alone_interrupts_nothing(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_SILENCE_S", 0.1)
    async with StoreAddress(valkey.url).connect_for_signals() as client, valkey.client() as store:
        bus = RedisSignalBus(client, partitions=1, instance="here")
        async with aclosing(bus.listen()) as listening:  # type: ignore[type-var]  # a generator, which closes
            assert await next_signal(listening) == Reconnected()
            following = asyncio.create_task(next_signal(listening))
            await pinged_again(store)
            await store.publish("{0}:wake", "7")
            assert await following == Due(0, 7)


async def pinged_again(store: Redis) -> None:
    """Return when the one subscriber has asked for a sign of life a few times."""
    while (await store.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"] < 5:
        pass
