"""No connection to an address that the guard refuses, by whatever way it is named."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import AsyncResolver

from kuueri_grpc.dispatcher import HttpDispatcher
from kuueri_grpc.dispatcher.resolver import GuardedResolver
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import answer, answering, serving


class Zone(AbstractResolver):
    """Answers with these addresses for every name: the first time the first list, and so on."""

    def __init__(self, *answers: Iterable[str]) -> None:
        self.answers = [list(addresses) for addresses in answers]
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("host", "detail"),
    [
        ("127.0.0.1", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("localhost", "loopback"),
        ("10.0.0.1", "private"),
        ("169.254.169.254", "cloud metadata"),
        ("2130706433", "irregular spelling of an address"),
        ("0x7f.1", "irregular spelling of an address"),
        ("127.1", "irregular spelling of an address"),
        ("0xa9fea9fe", "irregular spelling of an address"),
        ("127.0.0.1.", "irregular spelling of an address"),
        ("127。0。0。1", "loopback"),
        ("[fe80::1%25lo]", "scoped to an interface"),
    ],
)
async def test_nothing_is_sent_to_a_refused_address(host: str, detail: str) -> None:
    async with dispatching() as dispatcher, serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(f"http://{host}:{target.port}/"))

    assert (outcome.status_code, outcome.reason, outcome.detail) == (None, Reason.BLOCKED_ADDRESS, detail)
    assert target.connections == 0


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["8.8.8.8", "fd00::1"]])
async def test_a_name_with_a_refused_address_is_refused(addresses: list[str]) -> None:
    async with dispatching(resolver=Zone(addresses)) as dispatcher, serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(target.url(host="internal.example")))

    assert outcome.reason is Reason.BLOCKED_ADDRESS
    assert outcome.detail in {"loopback", "private"}
    assert target.connections == 0


async def test_the_detail_does_not_tell_what_an_internal_name_resolves_to() -> None:
    async with dispatching(resolver=Zone(["10.11.12.13"])) as dispatcher:
        outcome = await dispatcher.send(delivery("http://db.internal.example/"))

    assert (outcome.reason, outcome.detail) == (Reason.BLOCKED_ADDRESS, "private")


async def test_a_name_that_changes_to_a_refused_address_is_refused_then() -> None:
    # 127.0.0.2 stands for the public address: it is allowed, 127.0.0.1 is not.
    zone = Zone(["127.0.0.2"], ["127.0.0.1"])
    async with (
        dispatching("127.0.0.2/32", resolver=zone) as dispatcher,
        serving(answering(answer(connection="close")), host="127.0.0.2") as allowed,
        serving(answering(answer())) as refused,
    ):
        first = await dispatcher.send(delivery(f"http://rebind.example:{allowed.port}/"))
        # Another port, so another lookup: that of the first is kept for some seconds.
        second = await dispatcher.send(delivery(f"http://rebind.example:{refused.port}/"))

    assert first.succeeded
    assert second.reason is Reason.BLOCKED_ADDRESS
    assert refused.connections == 0
    assert zone.asked == ["rebind.example", "rebind.example"]


async def test_exactly_the_address_that_was_checked_is_dialled() -> None:
    zone = Zone(["127.0.0.2"], ["127.0.0.1"])
    async with (
        dispatching("127.0.0.2/32", resolver=zone) as dispatcher,
        serving(answering(answer(connection="close")), host="127.0.0.2") as target,
    ):
        outcomes = [await dispatcher.send(delivery(target.url(host="rebind.example"))) for _ in range(3)]

    assert all(outcome.succeeded for outcome in outcomes)
    assert zone.asked == ["rebind.example"]
    assert target.connections == 3


async def test_the_socket_is_guarded_even_if_the_resolver_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedResolver, "resolve", Zone(["127.0.0.1"]).resolve)
    async with dispatching() as dispatcher, serving(answering(answer())) as target:
        outcome = await dispatcher.send(delivery(target.url(host="internal.example")))

    assert (outcome.reason, outcome.detail) == (Reason.BLOCKED_ADDRESS, "loopback")
    assert target.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_allowed_range_is_open(dispatcher: HttpDispatcher, host: str) -> None:
    async with serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(target.url(host=host)))).succeeded


async def test_the_second_address_of_a_name_is_tried_when_the_first_refuses() -> None:
    zone = Zone(["127.0.0.2", "127.0.0.1"])
    async with dispatching(LOOPBACK, resolver=zone) as dispatcher, serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(target.url(host="two.example")))).succeeded


class NameServer(asyncio.DatagramProtocol):
    """A name server that knows no name (NXDOMAIN), or one that never answers."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._silent:
            self._transport.sendto(data[:2] + b"\x81\x83" + data[4:], addr)


@asynccontextmanager
async def name_server(*, silent: bool, timeout_s: float = 5.0) -> AsyncIterator[AsyncResolver]:
    """Return a resolver of c-ares, as in production, that asks this server alone."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(silent=silent), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    yield AsyncResolver(nameservers=[f"127.0.0.1:{port}"], timeout=timeout_s, tries=1, domains=[])
    transport.close()


async def test_a_name_that_does_not_exist() -> None:
    async with name_server(silent=False) as resolver, dispatching(resolver=resolver) as dispatcher:
        outcome = await dispatcher.send(delivery("http://nowhere.example/"))

    assert (outcome.status_code, outcome.reason) == (None, Reason.DNS)
    assert outcome.detail == "Domain name not found"


async def test_a_name_server_that_does_not_answer() -> None:
    async with (
        name_server(silent=True, timeout_s=0.1) as resolver,
        dispatching(resolver=resolver) as dispatcher,
    ):
        outcome = await dispatcher.send(delivery("http://nowhere.example/"))

    assert (outcome.status_code, outcome.reason) == (None, Reason.DNS)
    assert "Timeout" in outcome.detail


async def test_names_that_hang_hold_up_no_other_attempt() -> None:
    async with (
        name_server(silent=True, timeout_s=60) as resolver,
        dispatching(LOOPBACK, resolver=resolver) as dispatcher,
        serving(answering(answer())) as target,
    ):
        threads = threading.active_count()
        names = [f"http://host-{n}.example/" for n in range(200)]
        hanging = [asyncio.create_task(dispatcher.send(delivery(name))) for name in names]
        outcome = await dispatcher.send(delivery(target.url(host="localhost")))
        assert not any(task.done() for task in hanging)
        assert threading.active_count() == threads, "a name is waited for in a thread"
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)

    assert outcome.succeeded


async def test_a_name_that_hangs_obeys_the_deadline() -> None:
    async with (
        name_server(silent=True, timeout_s=60) as resolver,
        dispatching(resolver=resolver) as dispatcher,
    ):
        outcome = await dispatcher.send(delivery("http://slow.example/", timeout_ms=100))

    assert (outcome.status_code, outcome.reason) == (None, Reason.TIMEOUT)


async def test_a_name_that_is_allowed_is_allowed_at_the_socket_too() -> None:
    async with dispatching("localhost") as dispatcher, serving(answering(answer())) as target:
        assert (await dispatcher.send(delivery(target.url(host="localhost")))).succeeded
        refused = await dispatcher.send(delivery(target.url()))

    assert refused.reason is Reason.BLOCKED_ADDRESS
    assert len(target.received) == 1
