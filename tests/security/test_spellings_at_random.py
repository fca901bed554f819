"""Spellings that nobody thought of: put together at random, refused at both gates, and never dialled."""

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from kuueri_grpc.dispatcher import HttpDispatcher
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.service.url import url_fault
from tests.dispatcher.sending import delivery, dispatching
from tests.dispatcher.targets import Target, answer, answering, serving
from tests.security.spellings import DIGITS, DOTS, NUMBERS, embedded, parts
from tests.security.test_spellings import LenientResolver

NETWORKS_4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        ),
    )
)
NETWORKS_6 = tuple(
    map(
        IPv6Network,
        ("::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32", "3fff::/20"),
    )
)


@st.composite
def dotted(draw: st.DrawFn) -> str:
    """An IPv4 address as 1 to 4 numbers, each in a base of its own, digits and dots of any alphabet."""
    network = draw(st.sampled_from(NETWORKS_4))
    address = IPv4Address(draw(st.integers(int(network[0]), int(network[-1]))))
    numbers = [
        draw(st.sampled_from(NUMBERS)).format(part) for part in parts(address, draw(st.integers(1, 4)))
    ]
    host = (
        "".join(number + draw(st.sampled_from((".", ".", ".", *DOTS))) for number in numbers[:-1])
        + numbers[-1]
    )
    host = "".join(_disguised(draw, character) for character in host)
    return host + draw(st.sampled_from(("", "", "", ".", "..", *DOTS, "%00", "%20")))


def _disguised(draw: st.DrawFn, character: str) -> str:
    match draw(st.integers(0, 15)):
        case 0 if character.isdigit():
            return character.translate(draw(st.sampled_from(DIGITS)))
        case 1 if character.isalnum() and character.isascii():
            return f"%{ord(character):02x}"
        case 2:
            return character.upper()
        case _:
            return character


@st.composite
def bracketed(draw: st.DrawFn) -> str:
    """An IPv6 address that is refused, or stands for an IPv4 address that is; written in one of its forms."""
    if draw(st.booleans()):
        network = draw(st.sampled_from(NETWORKS_6))
        address = IPv6Address(draw(st.integers(int(network[0]), int(network[-1]))))
    else:
        inner = draw(st.sampled_from(NETWORKS_4))
        carried = IPv4Address(draw(st.integers(int(inner[0]), int(inner[-1]))))
        address = draw(st.sampled_from(list(embedded(carried))))
    groups = address.exploded.split(":")
    tail = ".".join(map(str, address.packed[-4:]))
    text = draw(st.sampled_from((str(address), address.exploded, ":".join([*groups[:-2], tail]))))
    text = draw(st.sampled_from((text, text.upper())))
    return f"[{text}{draw(st.sampled_from(('', '', '', '%lo', '%25lo', '%1', '%')))}]"


HOSTS = st.one_of(dotted(), bracketed())


class Gate:
    """A dispatcher that stays, and the target that counts what reaches this machine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dispatcher: HttpDispatcher, target: Target) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._target = target

    def refuses(self, host: str) -> bool:
        attempt = delivery(f"http://{host}:{self._target.port}/")
        outcome = self._loop.run_until_complete(self._dispatcher.send(attempt))
        assert self._target.connections == 0
        return outcome.reason in {Reason.BLOCKED_ADDRESS, Reason.INTERNAL} and outcome.status_code is None


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        dispatch = dispatching(resolver=LenientResolver())
        listen = serving(answering(answer()), host="::")
        target = runner.run(listen.__aenter__())
        dispatcher = runner.run(dispatch.__aenter__())
        yield Gate(runner.get_loop(), dispatcher, target)
        runner.run(dispatch.__aexit__(None, None, None))
        runner.run(listen.__aexit__(None, None, None))


@settings(max_examples=1_000, deadline=None)
@given(HOSTS)
def test_no_spelling_of_a_refused_address_passes_a_gate(gate: Gate, host: str) -> None:
    assert url_fault(f"http://{host}:8080/", 2_083, TargetPolicy()) is not None, "accepted at Subscribe"
    assert gate.refuses(host), "not refused at the dial"
