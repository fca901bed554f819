"""Which connections attempts share, how many an origin gets, and what does not reach them."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher, transport
from kuueri_grpc.dispatcher.gate import OriginGate
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import NotStarted
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import Connection, answer, answering, serving


async def test_connections_are_reused(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer(body=b"ok"))) as target:
        for _ in range(5):
            assert (await dispatcher.send(delivery(target.url()))).succeeded

    assert target.connections == 1


async def test_a_connection_that_the_target_is_about_to_close_is_not_reused(
    dispatcher: HttpDispatcher,
) -> None:
    async with serving(answering(answer(connection="close"))) as target:
        for _ in range(3):
            assert (await dispatcher.send(delivery(target.url()))).succeeded

    assert target.connections == 3


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE_S", 0.05)
    async with dispatching(LOOPBACK) as dispatcher, serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        async with asyncio.timeout(30):
            while target.open_connections:
                await target.changed()


async def test_a_process_that_stood_still_does_not_reuse_what_was_idle_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "KEEPALIVE_S", 0.05)
    async with dispatching(LOOPBACK) as dispatcher, serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        time.sleep(0.1)  # noqa: ASYNC251  no timer runs meanwhile: that is the point
        assert (await dispatcher.send(delivery(target.url()))).succeeded

    assert target.connections == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxies_from_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    tls = server_tls if scheme == "https" else None
    async with (
        serving(answering(answer("502 From Proxy"))) as proxy,
        serving(answering(answer()), tls=tls) as target,
    ):
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
            monkeypatch.setenv(name.upper(), proxy.url())
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        async with dispatching(LOOPBACK, tls=client_tls) as dispatcher:
            outcome = await dispatcher.send(delivery(target.url(host="localhost", scheme=scheme)))

    assert outcome.succeeded
    assert (proxy.connections, target.connections) == (0, 1)


@pytest.fixture
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("netrc")
async def test_credentials_of_netrc_are_ignored(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer())) as target:
        await dispatcher.send(delivery(target.url()))

    assert "authorization" not in target.received[0].headers


class Crowd:
    """A target that counts how many requests it holds at once, and answers when told to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.arrived = asyncio.Semaphore(0)
        self.inside = 0
        self.most = 0

    async def handle(self, connection: Connection) -> None:
        while True:
            await connection.read_request()
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.arrived.release()
            await self.release.wait()
            self.inside -= 1
            await connection.send(answer())


async def test_attempts_to_one_origin_are_limited_and_others_are_not_held_up() -> None:
    crowd = Crowd()
    async with (
        dispatching(LOOPBACK, max_per_host=3) as dispatcher,
        serving(crowd.handle) as slow,
        serving(answering(answer())) as quick,
    ):
        attempts = [asyncio.create_task(dispatcher.send(delivery(slow.url()))) for _ in range(10)]
        for _ in range(3):
            await crowd.arrived.acquire()

        assert (await dispatcher.send(delivery(quick.url()))).succeeded
        assert not any(attempt.done() for attempt in attempts)

        crowd.release.set()
        outcomes = await asyncio.gather(*attempts)

    assert all(outcome.succeeded for outcome in outcomes)
    assert crowd.most == 3
    assert len(slow.received) == 10


async def test_waiting_for_a_slot_is_not_part_of_the_attempts_time() -> None:
    async def hold_first(connection: Connection) -> None:
        request = await connection.read_request()
        if request.path == "/hold":
            await connection.wait_lost()
        await connection.send(answer())

    async with dispatching(LOOPBACK, max_per_host=1) as dispatcher, serving(hold_first) as target:
        first = asyncio.create_task(dispatcher.send(delivery(target.url("/hold"), timeout_ms=1_300)))
        await asyncio.sleep(0)
        second = asyncio.create_task(dispatcher.send(delivery(target.url("/"), timeout_ms=1_000)))
        outcomes = await asyncio.gather(first, second)

    # The second waited longer than its own time, and has it all the same.
    assert outcomes[0].reason is Reason.TIMEOUT
    assert outcomes[1].succeeded


async def test_an_attempt_that_may_not_start_when_its_turn_comes_is_not_sent() -> None:
    crowd = Crowd()
    async with dispatching(LOOPBACK, max_per_host=1) as dispatcher, serving(crowd.handle) as target:
        holder = asyncio.create_task(dispatcher.send(delivery(target.url())))
        await crowd.arrived.acquire()
        waiter = asyncio.create_task(dispatcher.send(delivery(target.url()), lambda: False))
        crowd.release.set()
        assert (await holder).succeeded
        with pytest.raises(NotStarted):
            await waiter
        assert (await dispatcher.send(delivery(target.url()))).succeeded

    assert len(target.received) == 2


async def test_an_attempt_whose_lease_ran_out_while_it_connected_is_not_sent(
    dispatcher: HttpDispatcher,
) -> None:
    may = [True, False]
    async with serving(answering(answer())) as target:
        with pytest.raises(NotStarted):
            await dispatcher.send(delivery(target.url()), lambda: may.pop(0))
        assert not target.received
        # The connection is there for the next one.
        assert (await dispatcher.send(delivery(target.url()))).succeeded

    assert not may
    assert target.connections == 1


async def test_the_gate_forgets_origins_that_nobody_uses() -> None:
    gate = OriginGate(1)
    origin = ("http", "example.com", None)
    async with gate.slot(origin):
        assert len(gate) == 1
        waiter = asyncio.create_task(hold(gate))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert len(gate) == 1
    assert len(gate) == 0

    async with gate.slot(origin):
        waiters = [asyncio.create_task(hold(gate)) for _ in range(3)]
    await asyncio.gather(*waiters)
    assert len(gate) == 0


async def hold(gate: OriginGate) -> None:
    async with gate.slot(("http", "example.com", None)):
        await asyncio.sleep(0)
