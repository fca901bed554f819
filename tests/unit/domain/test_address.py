import re

import pytest

from kuueri_grpc.domain.target_policy import DENIED, BlockedAddress, TargetPolicy

REFUSED = {
    # IPv4 by range, first and last address
    "0.0.0.0": "unspecified",  # noqa: S104 - an address to refuse, not to bind
    "0.255.255.255": "unspecified",
    "10.0.0.0": "private",
    "10.255.255.255": "private",
    "100.64.0.0": "carrier-grade NAT",
    "100.127.255.255": "carrier-grade NAT",
    "127.0.0.1": "loopback",
    "127.255.255.255": "loopback",
    "169.254.0.1": "link-local",
    "172.16.0.0": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "reserved",
    "192.168.0.1": "private",
    "198.18.0.0": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    # metadata
    "169.254.169.254": "cloud metadata",
    "169.254.170.2": "cloud metadata",
    "100.100.100.200": "cloud metadata",
    "192.0.0.192": "cloud metadata",
    "168.63.129.16": "cloud metadata",
    "fd00:ec2::254": "cloud metadata",
    "fd20:ce::254": "cloud metadata",
    # IPv6 by range
    "::": "unspecified",
    "::1": "loopback",
    "fc00::1": "private",
    "fdff:ffff::1": "private",
    "fe80::1": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "2001:2::1": "reserved",
    "2001:10::1": "reserved",
    "100::1": "reserved",
    "5f00::1": "reserved",
    "4000::1": "reserved",
    "fe00::1": "reserved",
    # IPv4 inside IPv6
    "::ffff:127.0.0.1": "loopback",
    "::ffff:10.0.0.1": "private",
    "::ffff:a9fe:a9fe": "cloud metadata",
    "::127.0.0.1": "loopback",
    "::10.0.0.1": "private",
    "::ffff:0:127.0.0.1": "loopback",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::a9fe:a9fe": "cloud metadata",
    "64:ff9b:1::10.0.0.1": "reserved",
    "64:ff9b:1:a00::100:0:0": "reserved",  # the same network with a /48 prefix: the address is elsewhere
    "64:ff9b:1::8.8.8.8": "reserved",
    "2002:7f00:1::": "loopback",
    "2002:a00:1::1": "private",
    "2001:0:a00:1::": "private",  # Teredo server
    "2001:0:808:808:0:0:f5ff:fffe": "private",  # Teredo client 10.0.0.1, inverted
    "2a00:1450::5efe:10.0.0.1": "private",  # ISATAP
    "2a00:1450::200:5efe:127.0.0.1": "loopback",  # ISATAP, universal bit set
    "fe80::5efe:8.8.8.8": "link-local",
    # not addresses to connect to
    "fe80::1%eth0": "scoped to an interface",
    "2a00:1450::1%1": "scoped to an interface",
    "": "not an address",
    "example.com": "not an address",
    "127.1": "not an address",
    "010.0.0.1": "not an address",
    "127.0.0.1 ": "not an address",
}

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:82a::200e",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2a00:1450::5efe:8.8.8.8",
]


@pytest.mark.parametrize(("address", "kind"), REFUSED.items())
def test_refused(address: str, kind: str) -> None:
    with pytest.raises(BlockedAddress) as refused:
        TargetPolicy().check_address(address)

    assert refused.value.kind == kind
    assert refused.value.address == address
    assert isinstance(refused.value, OSError)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    TargetPolicy().check_address(address)


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.0/8", "::1"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("::1/128", "::1"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3"),
        ("10.0.0.0/8", "2002:a01:203::1"),
        ("10.1.2.3", "10.1.2.3"),
        ("fd00::/8", "fd12::1"),
        ("169.254.169.254/32", "169.254.169.254"),
        ("64:ff9b:1::/96", "64:ff9b:1::10.0.0.1"),
        ("0.0.0.0/0", "192.168.1.1"),
    ],
)
def test_an_allowed_range_is_open_in_every_spelling(allowed: str, address: str) -> None:
    TargetPolicy([allowed]).check_address(address)


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("127.0.0.0/8", "10.0.0.1"),
        ("127.0.0.2/32", "127.0.0.1"),
        ("127.0.0.2/32", "::1"),
        ("10.0.0.0/8", "::1"),
        ("::1/128", "127.0.0.1"),
        ("8.8.8.8/32", "2001:0:808:808:0:0:f5ff:fffe"),  # one of the two addresses that Teredo carries
        ("fe80::/10", "fe80::1%eth0"),
    ],
)
def test_an_allowed_range_opens_nothing_else(allowed: str, address: str) -> None:
    with pytest.raises(BlockedAddress):
        TargetPolicy([allowed]).check_address(address)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "::", "::ffff:0.0.0.0", "64:ff9b::", "2002::1"],  # noqa: S104
)
def test_the_unspecified_address_is_loopback_too(address: str) -> None:
    with pytest.raises(BlockedAddress, match=DENIED):
        TargetPolicy(["0.0.0.0/0", "::/0"], deny=["127.0.0.0/8"]).check_address(address)
    with pytest.raises(BlockedAddress):
        TargetPolicy(["0.0.0.0/8", "::/128"]).check_address(address)
    TargetPolicy(["0.0.0.0/8", "127.0.0.0/8"]).check_address(address)


def test_a_name_on_the_way_is_refused_only_where_it_is_denied() -> None:
    policy = TargetPolicy(["inner.example"], deny=["db.example", "*.corp.example"])
    for denied in ("db.example", "DB.example.", "a.b.corp.example"):
        with pytest.raises(BlockedAddress, match=DENIED):
            policy.check_alias(denied)
    for other in ("example", "corp.example", "inner.example", "localhost"):
        policy.check_alias(other)


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "local host", "10.0.0.0/33", "10.1", "*", "a.*.example", ""])
def test_an_allowed_range_that_is_none_is_named(cidr: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(cidr))):
        TargetPolicy([cidr])


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0x",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "1",
        "127.0.0.1..",
        "256.0.0.1",
        "1.2.3.4.5",
        "example.1",
        "a.0x1f",
    ],
)
def test_irregular_spellings(host: str) -> None:
    with pytest.raises(BlockedAddress, match="irregular"):
        TargetPolicy().check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "8.8.8.8",
        "::1",
        "::ffff:127.0.0.1",
        "example.com",
        "example.com.",
        "localhost",
        "1.example",
        "0x7f.example",
        "a-1",
        "xn--fiqs8s",
        "1e3.a1",
        "deadbeef",
    ],
)
def test_regular_spellings(host: str) -> None:
    TargetPolicy(["127.0.0.0/8"]).check_host(host)
