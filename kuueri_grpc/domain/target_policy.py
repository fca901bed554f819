"""Where an attempt may be sent: everywhere public, but for what the operator denies, and where they allow it.

Asked twice. `check_host` looks at how the host of a URL is written, when a task is subscribed and again
before each request. `check_address` looks at what is about to be dialled, and is the one that binds.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from kuueri_grpc.domain.address import Address, Network, holds, judged_by, refused_as

#: A host with such a last label is an address or nothing: no top-level domain is a number (WHATWG URL,
#: "ends in a number"). C libraries read "127.1", "0x7f000001" or "2130706433" as addresses.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.*", re.DOTALL)

_LOOPBACK = IPv4Address("127.0.0.1")
_METADATA = IPv4Address("169.254.169.254")
#: Names that are no public host wherever they resolve, judged as the address they stand for. What else
#: resolves to a refused address is refused when it is dialled.
_KNOWN_NAMES: dict[str, Address] = {
    **dict.fromkeys(
        ("localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"), _LOOPBACK
    ),
    **dict.fromkeys(
        (
            "metadata",
            "metadata.goog",
            "metadata.google.internal",
            "instance-data",
            "instance-data.ec2.internal",
            "metadata.azure.internal",
            "metadata.tencentyun.com",
            "rancher-metadata",
        ),
        _METADATA,
    ),
}
_RESERVED_SUFFIX = ".localhost"  # RFC 6761, 6.3

DENIED = "denied by the operator of this server"
_PATTERN = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


class BlockedAddress(OSError):
    """An attempt may not be sent there. `kind` says why in a word or two, fit for a tenant's eyes.

    `address` is for the operator alone: it may be what an internal name resolved to.
    """

    def __init__(self, address: str, kind: str) -> None:
        super().__init__(f"{address} is refused: {kind}")
        self.address = address
        self.kind = kind


class TargetPolicy:
    """Refuses what is not public, in whatever spelling, and what was denied; lets pass what was allowed.

    A rule is a network in CIDR notation, a name ("payments.internal"), or all names below one
    ("*.corp.example", which does not include corp.example itself). Denied comes before allowed.

    Args:
        allow: networks and names that are open although they are not public. A network of IPv4 also
            opens the IPv6 addresses that stand for its own. An allowed name may resolve to anything that
            is not denied.
        deny: networks and names that are refused although they may be public or allowed.

    Raises:
        ValueError: a rule is neither; it names it.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allowed, self._allowed_names = _rules(allow)
        self._denied, self._denied_names = _rules(deny)
        # Asked for every task, mostly about the same hosts. Only what passes is kept.
        self._check_host = lru_cache(maxsize=4_096)(self._judge_host)

    def check_host(self, host: str) -> None:
        """Return if the host of a URL, in ASCII and without brackets, is one that attempts may be sent to.

        A name may still resolve to an address that is refused.

        Raises:
            BlockedAddress: it may not: a refused address, a name of one, or an address in a spelling
                that one library reads as a name, the next as an address, and the third as another one.
        """
        self._check_host(host)

    def check_address(self, address: str, name: str = "") -> None:
        """Return if an attempt may be sent to this numeric address, which `name` has led to.

        Raises:
            BlockedAddress: it may not, or the text is not an address.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            raise BlockedAddress(address, "not an address") from None
        if "%" in address:
            raise BlockedAddress(address, "scoped to an interface")
        self._judge(address, parsed, name_is_allowed=_matches(self._allowed_names, _folded(name)))

    def check_alias(self, name: str) -> None:
        """Return if a name between a target's own and its addresses (CNAME) is not denied by the operator.

        Raises:
            BlockedAddress: it is.
        """
        if _matches(self._denied_names, _folded(name)):
            raise BlockedAddress(name, DENIED)

    def _judge_host(self, host: str) -> None:
        if ":" not in host and _NUMERIC.fullmatch(host):
            try:
                IPv4Address(host)
            except ValueError:
                raise BlockedAddress(host, "irregular spelling of an address") from None
        try:
            return self.check_address(host)
        except BlockedAddress as error:
            if error.kind != "not an address":
                raise
        name = _folded(host)
        if _matches(self._denied_names, name):
            raise BlockedAddress(host, DENIED)
        stands_for = _LOOPBACK if name.endswith(_RESERVED_SUFFIX) else _KNOWN_NAMES.get(name)
        if stands_for is not None:
            self._judge(host, stands_for, name_is_allowed=_matches(self._allowed_names, name))
        return None

    def _judge(self, written: str, address: Address, *, name_is_allowed: bool) -> None:
        judged = judged_by(address)
        if any(holds(network, each) for network in self._denied for each in (address, *judged)):
            raise BlockedAddress(written, DENIED)
        # The unspecified address is open only where what it leads to is, too.
        if name_is_allowed or (self._is_allowed(address) and not address.is_unspecified):
            return
        for each in judged:
            kind = None if self._is_allowed(each) else refused_as(each)
            if kind is not None:
                raise BlockedAddress(written, kind)

    def _is_allowed(self, address: Address) -> bool:
        return any(holds(network, address) for network in self._allowed)


_Rules = tuple[tuple[Network, ...], frozenset[str]]


def _rules(rules: Iterable[str]) -> _Rules:
    networks: list[Network] = []
    names: set[str] = set()
    for rule in rules:
        try:
            networks.append(_carried(ip_network(rule)))
        except ValueError:
            if _NUMERIC.fullmatch(rule) or not _PATTERN.fullmatch(rule):
                raise ValueError(f"{rule!r} is neither a network nor a name") from None
            names.add(_folded(rule))
    return tuple(networks), frozenset(names)


def _carried(network: Network) -> Network:
    """Return the IPv4 network that a network of IPv4-mapped addresses stands for."""
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _folded(name: str) -> str:
    return name.rstrip(".").lower()


def _matches(patterns: frozenset[str], name: str) -> bool:
    """Whether the name is among the patterns, or below one that begins with "*."."""
    if not patterns or not name:
        return False
    if name in patterns:
        return True
    labels = name.split(".")
    return any("*." + ".".join(labels[start:]) in patterns for start in range(1, len(labels)))
