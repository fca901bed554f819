"""The rules of a target's headers.

A task may set any header but those that frame the message or belong to one connection (RFC 9110, section
7.6.1), and those by which the target recognises this service; nor such as a target may read as one of them.
"""

import re
from collections.abc import Mapping

from kuueri_grpc.service.violations import Violations, entry, shown

#: RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: RFC 9110, section 5.5: everything invisible but space and tab.
_BAD_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_FRAMING = "is set by the server from the URL and the body; leave it out"
_HOP_BY_HOP = "belongs to one connection and is never forwarded; leave it out"
_BLANKS = (" ", "\t")
_NO_EXPECTATION = "is not supported: the body is sent with the head; leave it out"
_OWN = "is set by the server; leave it out"
_REFUSED = {
    "host": _FRAMING,
    "content-length": _FRAMING,
    "transfer-encoding": _FRAMING,
    "connection": _HOP_BY_HOP,
    "expect": _NO_EXPECTATION,
    "http2-settings": _HOP_BY_HOP,
    "keep-alive": _HOP_BY_HOP,
    "proxy-authenticate": _HOP_BY_HOP,
    "proxy-authorization": _HOP_BY_HOP,
    "proxy-connection": _HOP_BY_HOP,
    "te": _HOP_BY_HOP,
    "trailer": _HOP_BY_HOP,
    "upgrade": _HOP_BY_HOP,
    "user-agent": "is always Kuueri-Tasks; leave it out",
}
_OWN_PREFIXES = ("webhook-", "x-kuueri-tasks-")


def check_headers(headers: Mapping[str, str], field: str, max_bytes: int, violations: Violations) -> None:
    """Note every header that may not be sent. No message repeats a value: it may be a secret."""
    size = sum(_size(name) + _size(value) for name, value in headers.items())
    if size > max_bytes:
        violations.add_passing(
            field, f"have {size:,} bytes of names and values; at most {max_bytes:,} are allowed"
        )
        return
    seen: dict[str, str] = {}
    for name, value in headers.items():
        folded = name.lower()
        fault = _name_fault(name, folded) or _value_fault(value)
        if fault is None and folded in seen:
            fault = f"differs from {shown(seen[folded])} in letter case alone, which does not count; keep one"
        if fault is not None:
            violations.add(entry(field, name), fault)
        seen[folded] = name


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _name_fault(name: str, folded: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is no header name; expected letters, digits and !#$%&'*+-.^_`|~ alone"
    # CGI, WSGI and some proxies take the one for the other.
    read_as = folded.replace("_", "-")
    if read_as in _REFUSED:
        return _REFUSED[read_as]
    return _OWN if read_as.startswith(_OWN_PREFIXES) else None


def _value_fault(value: str) -> str | None:
    found = _BAD_IN_VALUE.search(value)
    if found is not None:
        return (
            f"has a control character (U+{ord(found[0]):04X}) at position {found.start()} of its value; "
            "expected none of CR, LF, NUL and the like"
        )
    if value.startswith(_BLANKS) or value.endswith(_BLANKS):
        # RFC 9110, section 5.5: a target that keeps to it does not see them.
        return "has a value that begins or ends with a space or tab, which is no part of it; leave it out"
    return None
