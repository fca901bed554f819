"""The rules of a target's URL. What its host resolves to is checked when it is dialled, not here."""

import functools
import re
from ipaddress import AddressValueError, IPv6Address

import httpx

from kuueri_grpc.domain.target_policy import BlockedAddress, TargetPolicy
from kuueri_grpc.service.violations import shown

_EXPECTED = "expected an absolute http or https URL such as https://example.com/hook"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"[^/?#]*")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_MAX_NAME_LENGTH = 253
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_PORT = 65_535
#: Hosts whose form for sending is remembered: tasks are mostly for the same ones.
_REMEMBERED = 4_096
#: What no URL holds and no two parsers agree on.
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")

#: One look at the common form (a name that is neither encoded nor a number) spares the walk below, which
#: accepts all of it but for what the policy refuses.
_COMMON = re.compile(
    r"https?://(?P<host>(?![Xx][Nn]--)(?:[A-Za-z0-9_-]{1,40}\.){0,5}[A-Za-z][A-Za-z0-9_-]{0,39})"
    r"(?::[1-9][0-9]{0,3})?(?:[/?][!$-\[\]_a-z{|}~]*)?"
)


def url_fault(url: str, max_length: int, targets: TargetPolicy) -> str | None:
    """Return what is wrong with `url`, None if nothing is.

    The text never repeats the URL as a whole: its path and query may hold secrets.
    """
    if len(url) > max_length:
        return f"has {len(url):,} characters; at most {max_length:,} are allowed"
    if common := _COMMON.fullmatch(url):
        return _policy_fault(common["host"], targets)
    if not url:
        return f"is required; {_EXPECTED}"
    return (
        _unsafe_character(url) or _scheme_fault(url) or _authority_fault(url, targets) or _fragment_fault(url)
    )


def _unsafe_character(url: str) -> str | None:
    found = _UNSAFE.search(url)
    if found is None:
        if url.isascii() or url.isprintable():
            return None
        position = next(i for i, character in enumerate(url) if not character.isprintable())
    else:
        position = found.start()
    character = url[position]
    if character == "\\":
        return f"has a backslash at position {position}; percent-encode it as %5C"
    kind = "whitespace" if character.isspace() else "a control or invisible character"
    return f"has {kind} (U+{ord(character):04X}) at position {position}; percent-encode it"


def _scheme_fault(url: str) -> str | None:
    found = _SCHEME.match(url)
    if found is None or (found[1].lower() not in ("http", "https") and not url.startswith("//", found.end())):
        return f"is not absolute; {_EXPECTED}"
    if found[1].lower() not in ("http", "https"):
        return f"has scheme {shown(found[1])}; {_EXPECTED}"
    if not url.startswith("//", found.end()):
        return f"has no // after the scheme; {_EXPECTED}"
    return None


def _authority_fault(url: str, targets: TargetPolicy) -> str | None:
    start = url.index("//") + 2
    found = _AUTHORITY.match(url, start)
    authority = found[0] if found else ""
    if "@" in authority:
        return "has user-info before the host; send credentials in a header such as authorization"
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None:
        return f"has host {shown(authority)}; expected a name, an IPv4 address or an IPv6 address in [ ]"
    return _host_fault(parts[1], targets) or _port_fault(parts[2])


def _host_fault(host: str, targets: TargetPolicy) -> str | None:
    if not host:
        return f"has no host; {_EXPECTED}"
    if host.startswith("["):
        return _ipv6_fault(host) or _policy_fault(host[1:-1], targets)
    name = _as_sent(host)
    if name is None or not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        return (
            f"has host {shown(host)}; expected an IP address, or a name of at most {_MAX_NAME_LENGTH} "
            "characters with labels of 1 to 63 letters, digits, hyphens and underscores"
        )
    return _policy_fault(name, targets)


def _policy_fault(host: str, targets: TargetPolicy) -> str | None:
    try:
        targets.check_host(host)
    except BlockedAddress as error:
        return (
            f"has host {shown(host)}, to which no task may be sent: {error.kind}; expected a public host, "
            "or one that the operator of this server has opened"
        )
    return None


def _ipv6_fault(host: str) -> str | None:
    if "%" in host:
        return f"has host {shown(host)}; expected an IPv6 address without a zone id"
    try:
        IPv6Address(host[1:-1])
    except AddressValueError:
        return f"has host {shown(host)}; expected an IPv6 address between [ and ]"
    return None


@functools.lru_cache(_REMEMBERED)
def _as_sent(host: str) -> str | None:
    """Return the host as the client that sends it has it, None where that refuses it.

    It encodes names that are not ASCII, and is strict with those encoded already and with IPv4 addresses.
    """
    try:
        url = httpx.URL(scheme="http", host=host)
        return url.raw_host.decode("ascii") if url.host else None  # `host` decodes, and raises
    except (httpx.InvalidURL, UnicodeError):
        return None


def _port_fault(port: str | None) -> str | None:
    if port is None or (_PORT.fullmatch(port) and 1 <= int(port) <= _MAX_PORT):
        return None
    return f"has port {shown(port)}; expected 1 to {_MAX_PORT:,}"


def _fragment_fault(url: str) -> str | None:
    if "#" not in url:
        return None
    return "has a fragment (#...), which is never sent; leave it out, or percent-encode the # as %23"
