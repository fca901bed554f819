"""Which addresses are not public, in whatever form they come, and what each of them is.

The check is against an explicit list of networks and not `ipaddress`'s `is_global`, which is True for
addresses that carry a private IPv4 address inside (NAT64, 6to4, IPv4-compatible) and differs between
Python versions. Sources: the IANA special-purpose address registries (RFC 6890) and the addresses at
which cloud providers serve instance metadata.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Refused networks by kind. The first that holds the address names the kind, so the narrow come first.
_REFUSED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "cloud metadata",
        (
            "169.254.169.254/32",  # AWS, Azure, Google and most others
            "169.254.170.0/24",  # AWS container credentials
            "100.100.100.200/32",  # Alibaba
            "192.0.0.192/32",  # Oracle
            "168.63.129.16/32",  # Azure platform; the only one in public space
            "fd00:ec2::/32",  # AWS
            "fd20:ce::254/128",  # Google
        ),
    ),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("carrier-grade NAT", ("100.64.0.0/10",)),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    (
        "documentation",
        ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    ),
    ("benchmarking", ("198.18.0.0/15",)),
    (
        "reserved",
        (
            "192.0.0.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "240.0.0.0/4",  # and the broadcast address
            "2001::/23",  # protocol assignments
            # All that is not 2000::/3, the only range in which public addresses are given out. What it
            # holds that stands for an IPv4 address (NAT64, IPv4-mapped) is judged as that address.
            "::/3",
            "4000::/2",
            "8000::/1",
        ),
    ),
)

_NETWORKS: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind) for kind, networks in _REFUSED for network in networks
)

_LOOPBACK = IPv4Address("127.0.0.1")
_UNSPECIFIED = IPv4Address("0.0.0.0")  # noqa: S104 - an address to refuse, not to bind
#: One machine, one decision: "localhost" resolves to both loopback addresses, and an operator who allows
#: the one does not expect the other to refuse the name. A connection to the unspecified address of either
#: version is one to loopback.
_SAME_HOST: dict[Address, tuple[IPv4Address, ...]] = {
    IPv6Address("::1"): (_LOOPBACK,),
    IPv6Address("::"): (_UNSPECIFIED, _LOOPBACK),
    _UNSPECIFIED: (_UNSPECIFIED, _LOOPBACK),
}

#: IPv6 networks whose addresses stand for IPv4 addresses, and where in their 128 bits those are.
_CARRIERS: tuple[tuple[IPv6Network, Callable[[int], tuple[int, ...]]], ...] = (
    (IPv6Network("::ffff:0:0/96"), lambda bits: (bits,)),  # IPv4-mapped
    (IPv6Network("::/96"), lambda bits: (bits,)),  # IPv4-compatible
    (IPv6Network("::ffff:0:0:0/96"), lambda bits: (bits,)),  # IPv4-translated
    # NAT64. Its local-use prefix 64:ff9b:1::/48 is refused as a whole, because there the position of the
    # IPv4 address is each network's own choice.
    (IPv6Network("64:ff9b::/96"), lambda bits: (bits,)),
    (IPv6Network("2002::/16"), lambda bits: (bits >> 80,)),  # 6to4
    # Teredo: the server, and the client behind it, whose bits are inverted (RFC 4380, 4).
    (IPv6Network("2001::/32"), lambda bits: (bits >> 64, ~bits)),
)
#: Upper half of an ISATAP interface identifier, without its universal/local bit (RFC 5214, 6.1).
_ISATAP = 0x00005EFE
_ISATAP_MASK = 0xFDFFFFFF
_32_BITS = 0xFFFFFFFF


def refused_as(address: Address) -> str | None:
    """Return what the address is if it is not public ("loopback"), None if it is."""
    return next((kind for network, kind in _NETWORKS if holds(network, address)), None)


def holds(network: Network, address: Address) -> bool:
    """Whether the address is in the network; never, if they are of different versions."""
    return address.version == network.version and address in network


def judged_by(address: Address) -> tuple[Address, ...]:
    """Return the addresses that decide on this one: itself, or those it stands for."""
    if address in _SAME_HOST:
        return _SAME_HOST[address]
    if isinstance(address, IPv4Address):
        return (address,)
    bits = int(address)
    for network, carried in _CARRIERS:
        if address in network:
            return tuple(each for part in carried(bits) for each in judged_by(IPv4Address(part & _32_BITS)))
    if (bits >> 32) & _ISATAP_MASK == _ISATAP:
        return (address, *judged_by(IPv4Address(bits & _32_BITS)))
    return (address,)
