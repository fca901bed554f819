"""What one address may get wrong, and how many projects it may register.

Counted per process, by the address that the connection comes from: what a header says of another one is
for anybody to write. Behind a proxy that does not pass addresses on, all clients are one peer here.
"""

import functools
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote

from kuueri_grpc.domain.errors import RateLimited
from kuueri_grpc.engine.buckets import Buckets, Rate
from kuueri_grpc.ports import NO_TELEMETRY, Telemetry, Throttled

#: A host has a network of this size to itself, as a rule, and any address in it.
_IPV6_PREFIX = 64
_REMEMBERED = 4_096


class Peers:
    """Failed authentications and registrations by peer. None: no limit."""

    def __init__(
        self,
        failures: Rate | None = None,
        registrations: Rate | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._failures = None if failures is None else Buckets(failures)
        self._registrations = None if registrations is None else Buckets(registrations)
        self._telemetry = telemetry

    def failed(self, peer: str) -> None:
        """A token of the peer was none."""
        if self._failures is not None:
            self._failures.take(network_of(peer))

    def wait_s(self, peer: str) -> float:
        """Return the seconds until the peer may be wrong again, 0 if it may be now."""
        # As a rule nobody has failed of late, and nothing has to be looked up.
        return self._failures.wait_s(network_of(peer)) if self._failures else 0.0

    def refuse_failing(self, peer: str, wait_s: float) -> RateLimited:
        """Return the error for a peer that has to wait."""
        self._telemetry.call_throttled(Throttled.FAILED_AUTHENTICATION)
        return RateLimited.of_peer(network_of(peer), "sent too many tokens that are not valid", wait_s)

    def register(self, peer: str) -> None:
        """Count a registration. Raises `RateLimited`."""
        if self._registrations is not None and (wait_s := self._registrations.take(network_of(peer))):
            self._telemetry.call_throttled(Throttled.REGISTRATION)
            raise RateLimited.of_peer(network_of(peer), "made too many calls of Register", wait_s)


@functools.lru_cache(_REMEMBERED)
def network_of(peer: str) -> str:
    """Return what counts as one peer: an IPv4 address, a /64 of IPv6, or what else gRPC calls it.

    Args:
        peer: `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000`, `unix:...`.
    """
    family, _, rest = peer.partition(":")
    try:
        return network(unquote(rest).rpartition(":")[0].strip("[]"))
    except ValueError:
        return family


def network(host: str) -> str:
    """Return what counts as one peer by its numeric address. Raises `ValueError`."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
