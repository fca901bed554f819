"""What this process lacks is never the target's failure: an attempt waits for it, and may be given back."""

import asyncio
import errno
import json
import socket
import sys
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher, connector, proxy, shortage
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import NotStarted, ResourcesLacking
from tests.dispatcher.proxies import proxying
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import Connection, Target, answer, answering, serving
from tests.dispatcher.test_guarding import Zone, name_server

ATTEMPTS = 60
LACKS = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]


class Lack:
    """Makes sockets fail with an error of the system, so many times or for ever."""

    def __init__(self, name: str, times: float = float("inf")) -> None:
        self.error = getattr(errno, name)
        self.times = times
        self.asked = 0

    def __call__(self, *args: int) -> socket.socket:
        self.asked += 1
        if self.asked <= self.times:
            raise OSError(self.error, "as told")
        return socket.socket(*args)

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = SimpleNamespace(socket=self, AF_INET=socket.AF_INET, AF_INET6=socket.AF_INET6)
        fake.AF_UNSPEC = socket.AF_UNSPEC
        for module in (connector, proxy):
            monkeypatch.setattr(module, "socket", fake)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortage, "PATIENCE_S", 0.2)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("by_proxy", [False, True])
async def test_attempts_without_a_descriptor_are_sent_when_there_is_one(
    host: str,
    by_proxy: bool,
) -> None:
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(proxying()) if by_proxy else None
        target = await stack.enter_async_context(serving(answering(answer())))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.dispatcher.starved", target.url(host=host), str(ATTEMPTS)),
            str(way.port if way else 0),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, _ = await program.communicate()

    (tally, longest_ms) = json.loads(out)
    assert tally == {"SUCCEEDED ": ATTEMPTS}
    assert longest_ms < 20_000
    assert len(target.received) == ATTEMPTS


@pytest.mark.parametrize("name", LACKS)
async def test_each_kind_of_lack_is_waited_for(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lack = Lack(name, times=3)
    lack.put_in(monkeypatch)
    async with serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.succeeded, outcome.detail) == (True, "")
    assert lack.asked == 4
    assert len(target.received) == 1


async def test_of_one_address_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lack = Lack("EMFILE", times=1)
    lack.put_in(monkeypatch)
    zone = Zone(["127.0.0.1", "127.0.0.9"])
    async with dispatching(LOOPBACK, resolver=zone) as dispatcher, serving(answering(answer())) as target:
        # 127.0.0.1 is not tried for the lack of a descriptor, 127.0.0.9 refuses.
        assert (await dispatcher.send(delivery(target.url(host="two.example")))).succeeded


async def test_the_wait_is_not_part_of_the_attempts_time(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    Lack("EMFILE", times=5).put_in(monkeypatch)  # 10 + 20 + 40 + 80 + 160 ms
    async with serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(target.url(), timeout_ms=200))

    assert outcome.succeeded
    assert outcome.latency_ms < 200


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", LACKS)
async def test_an_attempt_that_waits_in_vain_is_no_outcome(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Lack(name).put_in(monkeypatch)
    async with serving(answering(answer())) as target:
        with pytest.raises(ResourcesLacking, match=name):
            await dispatcher.send(delivery(target.url()))

    assert not target.connections


async def test_it_ends_where_the_lease_does(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack = Lack("EMFILE")
    lack.put_in(monkeypatch)
    may = [True, True, False]
    with pytest.raises(NotStarted):
        await dispatcher.send(delivery("http://127.0.0.1:9/"), lambda: may.pop(0))
    assert lack.asked == 2


async def test_a_waiting_attempt_can_be_cancelled(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack = Lack("EMFILE")
    lack.put_in(monkeypatch)
    attempt = asyncio.create_task(dispatcher.send(delivery("http://127.0.0.1:9/")))
    while not lack.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOBUFS, "no room")])
async def test_a_lack_while_the_answer_is_awaited_is_no_outcome(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def lose(*_: object) -> None:
        raise error

    monkeypatch.setattr(dispatcher._transport, "send", lose)
    async with serving(answering(answer())) as target:
        with pytest.raises(ResourcesLacking):
            await dispatcher.send(delivery(target.url()))


async def test_a_name_that_does_not_resolve_without_a_descriptor_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = iter(["EMFILE", "EMFILE", "EMFILE"])
    monkeypatch.setattr(shortage, "missing_now", lambda: next(lacking, None))
    monkeypatch.setattr(shortage, "_AFTERMATH_S", 0.0)
    async with name_server(silent=False) as resolver, dispatching(resolver=resolver) as dispatcher:
        outcome = await dispatcher.send(delivery("http://nowhere.example/"))

    assert (outcome.reason, next(lacking, None)) == (Reason.DNS, None)


async def test_an_idle_connection_gives_its_descriptor_up(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(answering(answer())) as idle, serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(idle.url()))).succeeded
        monkeypatch.setattr("kuueri_grpc.dispatcher.transport.missing_now", lambda: _missing(idle))
        Lack("EMFILE", times=1).put_in(monkeypatch)
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        assert not idle.open_connections


def _missing(idle: Target) -> str | None:
    return "EMFILE" if idle.open_connections else None


async def test_a_kept_connection_serves_where_there_is_no_descriptor(
    dispatcher: HttpDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()
    held = asyncio.Event()

    async def hold(connection: Connection) -> None:
        while True:
            await connection.read_request()
            held.set()
            await release.wait()
            await connection.send(answer())

    async with serving(hold) as target:
        first = asyncio.create_task(dispatcher.send(delivery(target.url())))
        await held.wait()
        lack = Lack("EMFILE")
        lack.put_in(monkeypatch)
        monkeypatch.setattr("kuueri_grpc.dispatcher.transport.missing_now", lambda: "EMFILE")
        second = asyncio.create_task(dispatcher.send(delivery(target.url())))
        while not lack.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        release.set()
        assert (await first).succeeded
        assert (await second).succeeded

    assert target.connections == 1


async def test_an_address_without_a_way_to_it_is_no_lack_of_ports() -> None:
    # A broadcast address may not be connected to; loopback may.
    assert not shortage.is_out_of_ports(socket.AF_INET, ("255.255.255.255", 9))
    assert shortage.is_out_of_ports(socket.AF_INET, ("127.0.0.1", 9))


async def test_the_lack_of_ports_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 2

    class NoPort(socket.socket):
        def connect(self, address: object) -> None:
            nonlocal refused
            if refused and self.type == socket.SOCK_STREAM:
                refused -= 1
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().connect(address)  # type: ignore[arg-type]

    monkeypatch.setattr(connector, "socket", SimpleNamespace(socket=NoPort))
    # asyncio's own event loop connects by the socket's method, uvloop past it.
    loop = asyncio.get_running_loop()
    if "uvloop" in type(loop).__module__:
        pytest.skip("uvloop connects past the socket's method")
    async with dispatching(LOOPBACK) as dispatcher, serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(target.url()))).succeeded

    assert refused == 0
    assert target.connections == 1
