"""The URLs of targets: where to connect, and what to ask for there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, urlencode

import httpx

from kuueri_grpc.domain.task import HttpTarget
from kuueri_grpc.domain.url import InvalidUrl, host_of

#: (scheme, host, port; None: the scheme's own), what a connection can be shared for.
Origin = tuple[str, str, int | None]

#: A URL with a path that nothing has to be done to: no character to quote, no segment of dots.
_READY = re.compile(r"(https?://[^/?#@\\\s]+)((?!.*/\.)/[\w\-.~!$&'()*+,;=:@%/?]*)", re.ASCII)

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL in the parts that are needed.

    `host`: in ASCII, to be looked up. `authority`: for the header `Host`. `path`: with the query.
    """

    url: str = field(repr=False)
    origin: Origin
    host: str
    authority: bytes
    path: bytes = field(repr=False)


def target_of(target: HttpTarget) -> Target:
    """Return where an attempt goes, with the query parameters that its task adds to the URL.

    Raises:
        InvalidUrl: it is not a URL that a request can be sent to.
    """
    return parse(_with_query(target.url, target.query_params))


def parse(url: str) -> Target:
    """Return the parts of an absolute URL. Raises as `target_of`.

    `domain.url` decides on what is a URL. httpx gives what was accepted its form for sending. The path of a
    task is often its own, and its origin hardly ever: the form of an origin is kept, and httpx does the path
    only where something has to be done to it.
    """
    if ready := _READY.fullmatch(url):
        base, path = ready[1], ready[2]
        if _is_spelled_out(path):
            at = _origin(base)
            return Target(url, at.origin, at.host, at.authority, path.encode("ascii"))
    return _parsed(url)


def _parsed(text: str) -> Target:
    host_of(text)
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:  # a control character in the path
        raise InvalidUrl("has a character that no URL has") from error
    origin = url.scheme, url.host, url.port
    return Target(str(url), origin, url.raw_host.decode("ascii"), url.netloc, url.raw_path)


def _is_spelled_out(path: str) -> bool:
    # httpx quotes a percent sign that begins no escape.
    return "%" not in path or len(_ESCAPE.findall(path)) == path.count("%")


@lru_cache(maxsize=1_024)
def _origin(base: str) -> Target:
    return _parsed(base)


def _with_query(url: str, params: Mapping[str, str]) -> str:
    """Append parameters without touching the URL's own query, whose encoding is its owner's."""
    if not params:
        return url
    url = url.partition("#")[0]
    path, _, query = url.partition("?")
    joint = "&" if query and not query.endswith("&") else ""
    return f"{path}?{query}{joint}{urlencode(params, quote_via=quote)}"
