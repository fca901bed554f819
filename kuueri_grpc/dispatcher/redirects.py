"""What a followed redirect asks for (RFC 9110, 15.4), and what must not go along with it.

Not httpx's own following: that forwards every header but `authorization` to another origin, takes
credentials from the URL that the target names, keeps cookies, and logs each URL with its query.
"""

from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from kuueri_grpc.dispatcher.message import Answer, InvalidResponse, Request
from kuueri_grpc.dispatcher.url import Origin, Target, parse
from kuueri_grpc.domain.target_policy import BlockedAddress
from kuueri_grpc.domain.url import InvalidUrl

#: How many redirects are followed; an answer after them that is another one ends the attempt.
MAX_REDIRECTS = 5

_TO_GET_ALWAYS = frozenset({303})
_TO_GET_FROM_POST = frozenset({301, 302})
_KEEP_METHOD = frozenset({307, 308})
_FOLLOWED = _TO_GET_ALWAYS | _TO_GET_FROM_POST | _KEEP_METHOD

#: What may go to another origin: nothing that the task may have meant as a credential.
_PUBLIC_HEADERS = frozenset(
    {"accept", "accept-charset", "accept-language", "content-encoding", "content-language", "content-length"}
    | {"content-type", "user-agent"}
)
_PUBLIC_PREFIX = "x-kuueri-tasks-"


class TooManyRedirects(Exception):
    """One redirect followed another, beyond the limit."""


def is_redirect(answer: Answer) -> bool:
    """Return whether the answer leads elsewhere."""
    return answer.location is not None and answer.status_code in _FOLLOWED


def next_request(request: Request, answer: Answer) -> Request | None:
    """Return the request that the answer redirects to; None if it is an answer to be taken as it is.

    Raises:
        BlockedAddress: the redirect leaves http and https, brings credentials of its own, or would send the
            request's body in clear text from https to http.
        InvalidResponse: the location is not a URL.
    """
    if answer.location is None or not is_redirect(answer):
        return None
    target = _target(request.target.url, answer.location)
    method = _method(request.method, answer.status_code)
    drops_body = method != request.method
    body = b"" if drops_body else request.body
    if body and (request.target.origin[0], target.origin[0]) == ("https", "http"):
        raise BlockedAddress(target.host, "redirect from https to http with a body")
    keeps_credentials = _is_same_owner(request.target.origin, target.origin)
    headers = [
        (name, value)
        for name, value in request.headers
        if _goes_along(
            name.decode("ascii").lower(), keeps_credentials=keeps_credentials, drops_body=drops_body
        )
    ]
    return replace(
        request, method=method, target=target, headers=[(b"host", target.authority), *headers], body=body
    )


def _target(base: str, location: str) -> Target:
    try:
        url = urljoin(base, location)
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            raise BlockedAddress(parts.netloc, "redirect to another scheme than http")
        if "@" in parts.netloc:
            raise BlockedAddress("", "redirect with credentials in the URL")
        return parse(url)
    except (InvalidUrl, ValueError) as error:  # the latter: brackets that do not match
        raise InvalidResponse from error


def _is_same_owner(origin: Origin, other: Origin) -> bool:
    """Return whether credentials for the one may go to the other: it is the same, or the same host with TLS.

    That the certificate is the host's is checked, so the target gets them back, on a better way.
    """
    return other == origin or (other[1] == origin[1] and (origin[0], other[0]) == ("http", "https"))


def _method(method: str, status_code: int) -> str:
    if status_code in _TO_GET_ALWAYS and method != "HEAD":
        return "GET"
    if status_code in _TO_GET_FROM_POST and method == "POST":
        return "GET"
    return method


def _goes_along(name: str, *, keeps_credentials: bool, drops_body: bool) -> bool:
    if name == "host":
        return False
    if drops_body and name.startswith(("content-", "webhook-")):
        return False  # the signature is over the body
    return keeps_credentials or name in _PUBLIC_HEADERS or name.startswith(_PUBLIC_PREFIX)
