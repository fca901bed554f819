"""The rules of a task's URL. What its host resolves to is checked when it is dialled, not here."""

import re

from kuueri_grpc.domain.target_policy import BlockedAddress, TargetPolicy
from kuueri_grpc.domain.url import EXPECTED, InvalidUrl, host_of
from kuueri_grpc.service.violations import shown

#: Characters rejected because URL parsers disagree on them.
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
        return f"is required; {EXPECTED}"
    unsafe = _unsafe_character(url)
    if unsafe is not None:
        return unsafe
    try:
        host = host_of(url)
    except InvalidUrl as error:
        return error.fault.format(shown(error.value))
    return _zone_fault(host) or _policy_fault(host, targets) or _fragment_fault(url)


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


def _zone_fault(host: str) -> str | None:
    if "%" not in host:
        return None
    return f"has host {shown(f'[{host}]')}; expected an IPv6 address without a zone id"


def _policy_fault(host: str, targets: TargetPolicy) -> str | None:
    try:
        targets.check_host(host)
    except BlockedAddress as error:
        return (
            f"has host {shown(host)}, to which no task may be sent: {error.kind}; expected a public host, "
            "or one that the operator of this server has opened"
        )
    return None


def _fragment_fault(url: str) -> str | None:
    if "#" not in url:
        return None
    return "has a fragment (#...), which is never sent; leave it out, or percent-encode the # as %23"
