"""How settings name where tasks may be sent: networks, names, and the proxy on the way there."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

#: A network, a name ("payments.internal"), or all names below one ("*.corp.example").
TargetRule = IPv4Network | IPv6Network | str

_EXPECTED = "expected networks such as 10.0.0.0/8 and names such as hooks.example.com or *.example.com"
_NAME = re.compile(r"(?:\*\.)?(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z_][A-Za-z0-9_-]{0,62}\.?")


def parse_rules(rules: object) -> object:
    """Return the rules of a list, or of a text in which commas separate them; other values as they are.

    Raises:
        ValueError: one of them is no rule; it names it.
    """
    parts = rules.split(",") if isinstance(rules, str) else rules
    return tuple(_parse_rule(part) for part in parts) if isinstance(parts, list | tuple) else rules


def _parse_rule(rule: object) -> TargetRule:
    if isinstance(rule, IPv4Network | IPv6Network):
        return rule
    if not isinstance(rule, str):
        # An integer would be taken as an address.
        raise ValueError(f"{_EXPECTED}, one is {rule!r}")  # noqa: TRY004  pydantic's
    rule = rule.strip()
    if _NAME.fullmatch(rule):
        return rule.rstrip(".").lower()
    try:
        return ip_network(rule)
    except ValueError as error:
        hint = "; write a name in its ASCII form (xn--...)" if not rule.isascii() else ""
        raise ValueError(f"{_EXPECTED}: {error}{hint}") from None


def check_proxy_url(url: str) -> None:
    """Return if this is the address of a proxy.

    Raises:
        ValueError: it is not. Nothing of the address is repeated: it may hold a password.
    """
    expected = "expected http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with both percent-encoded"
    try:
        parts = urlsplit(url)
        complete = parts.scheme == "http" and parts.hostname and parts.port
        more = parts.path not in ("", "/") or parts.query or parts.fragment
    except ValueError:
        raise ValueError(expected) from None
    if not complete or more:
        raise ValueError(expected)
