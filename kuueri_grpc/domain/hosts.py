"""Hosts as they are named in addresses."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether this machine alone reaches `host`: a loopback address or localhost; another name may move."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
