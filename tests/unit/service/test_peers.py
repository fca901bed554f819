"""What counts as one peer, and what it may get wrong."""

import pytest

from kuueri_grpc.domain.errors import RateLimited
from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.ports import Telemetry, Throttled
from kuueri_grpc.service.peers import Peers, network_of


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv4:192.0.2.1:1", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:3::9%5D:1", "2001:db8:1:3::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("ipv6:%5B::1%5D:1", "::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:1", "192.0.2.1"),
        ("unix:", "unix"),
        ("unix:/run/some.sock", "unix"),
        ("", ""),
    ],
)
def test_one_peer(peer: str, expected: str) -> None:
    assert network_of(peer) == expected


class Counted(Telemetry):
    def __init__(self) -> None:
        self.by: list[Throttled] = []

    def call_throttled(self, by: Throttled) -> None:
        self.by.append(by)


def test_a_peer_that_fails_has_to_wait_and_others_do_not() -> None:
    peers = Peers(Rate(2, 60), None)
    here, there = "ipv4:192.0.2.1:1", "ipv4:192.0.2.2:1"
    for _ in range(2):
        assert peers.wait_s(here) == 0
        peers.failed(here)
    assert 0 < peers.wait_s(here) <= 30
    assert peers.wait_s("ipv4:192.0.2.1:2") > 0
    assert peers.wait_s(there) == 0


def test_registrations_are_counted() -> None:
    counted = Counted()
    peers = Peers(None, Rate(1, 60), counted)
    peers.register("ipv6:%5B2001:db8::1%5D:1")
    with pytest.raises(RateLimited, match=r"^the address 2001:db8::/64 made too many calls") as caught:
        peers.register("ipv6:%5B2001:db8::2%5D:1")
    assert caught.value.subject == "peer:2001:db8::/64"
    assert 0 < caught.value.retry_ms <= 60_001
    assert counted.by == [Throttled.REGISTRATION]


def test_without_limits_nothing_is_refused() -> None:
    peers = Peers(None, None)
    for _ in range(1_000):
        peers.failed("ipv4:192.0.2.1:1")
        peers.register("ipv4:192.0.2.1:1")
    assert peers.wait_s("ipv4:192.0.2.1:1") == 0
