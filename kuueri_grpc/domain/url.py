"""The URLs that requests go to. One grammar for all of them: Subscribe, the dispatcher, each redirect.

What a second parser would read otherwise, or refuse, is refused here.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

EXPECTED = "expected an absolute http or https URL such as https://example.com/hook"
MAX_PORT = 65_535
_SCHEMES = frozenset({"http", "https"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"[^/?#]*")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_FOUR_NUMBERS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_MAX_NAME_LENGTH = 253
_PORT = re.compile(r"[0-9]{1,5}")
#: Hosts whose form for sending is remembered: tasks are mostly for the same ones.
_REMEMBERED = 4_096


class InvalidUrl(ValueError):
    """A URL that no request can be sent to.

    `fault` is what is wrong, with `{}` for `value` if there is one: a part of the URL, never the whole, whose
    path and query may hold secrets.
    """

    def __init__(self, fault: str, value: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.value = value


def host_of(url: str) -> str:
    """Return the host of an absolute URL as it is looked up: in ASCII, an IPv6 address without brackets.

    Raises:
        InvalidUrl: it has another scheme than http and https, user-info, or no host and port that are valid.
            (Path, query and fragment are not looked at.)
    """
    start = _after_scheme(url)
    found = _AUTHORITY.match(url, start)
    authority = found[0] if found else ""
    if "@" in authority:
        raise InvalidUrl("has user-info before the host; send credentials in a header such as authorization")
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None:
        raise InvalidUrl("has host {}; expected a name, an IPv4 address or an IPv6 address in [ ]", authority)
    host = _host(parts[1])
    _check_port(parts[2])
    return host


def _after_scheme(url: str) -> int:
    found = _SCHEME.match(url)
    if found is None or (found[1].lower() not in _SCHEMES and not url.startswith("//", found.end())):
        raise InvalidUrl(f"is not absolute; {EXPECTED}")
    if found[1].lower() not in _SCHEMES:
        raise InvalidUrl(f"has scheme {{}}; {EXPECTED}", found[1])
    if not url.startswith("//", found.end()):
        raise InvalidUrl(f"has no // after the scheme; {EXPECTED}")
    return found.end() + 2


def _host(host: str) -> str:
    if not host:
        raise InvalidUrl(f"has no host; {EXPECTED}")
    if host.startswith("["):
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            raise InvalidUrl("has host {}; expected an IPv6 address between [ and ]", host) from None
        return host[1:-1]
    name = _as_sent(host)
    if name is None or not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise InvalidUrl(
            f"has host {{}}; expected an IP address, or a name of at most {_MAX_NAME_LENGTH} "
            "characters with labels of 1 to 63 letters, digits, hyphens and underscores",
            host,
        )
    return name


@lru_cache(_REMEMBERED)
def _as_sent(host: str) -> str | None:
    """Return a host in ASCII, None if it has no such form.

    Names that are not ASCII are encoded; those encoded already, and IPv4 addresses, must be right.
    """
    try:
        if not host.isascii():
            return idna.encode(host.lower()).decode("ascii")
        if _FOUR_NUMBERS.fullmatch(host):
            IPv4Address(host)
        elif host[:4].lower() == "xn--":
            idna.decode(host)
    except (AddressValueError, UnicodeError):  # the latter is also what `idna` raises
        return None
    return host.lower()


def _check_port(port: str | None) -> None:
    if port is None or (_PORT.fullmatch(port) and port.isascii() and 1 <= int(port) <= MAX_PORT):
        return
    raise InvalidUrl(f"has port {{}}; expected 1 to {MAX_PORT:,}", port)
