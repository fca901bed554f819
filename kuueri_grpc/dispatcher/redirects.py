"""What a followed redirect asks for (RFC 9110, 15.4), and what must not go along with it.

Not httpx's own following: that forwards every header but `authorization` to another origin, takes
credentials from the URL that the target names, keeps cookies, and logs each URL with its query.
"""

import httpx

from kuueri_grpc.dispatcher.message import Answer, InvalidResponse, Request
from kuueri_grpc.dispatcher.url import of_url
from kuueri_grpc.domain.target_policy import BlockedAddress

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
        BlockedAddress: the redirect leaves http and https, or brings credentials of its own.
        InvalidResponse: the location is not a URL.
    """
    if answer.location is None or not is_redirect(answer):
        return None
    try:
        url = httpx.URL(request.target.url).join(answer.location)
        target = of_url(url)
    except (httpx.InvalidURL, UnicodeError) as error:  # the latter: a host that IDNA refuses
        raise InvalidResponse from error
    if url.scheme not in {"http", "https"}:
        raise BlockedAddress(url.host, "redirect to another scheme than http")
    if url.userinfo:
        raise BlockedAddress(url.host, "redirect with credentials in the URL")
    method = _method(request.method, answer.status_code)
    drops_body = method != request.method
    same_origin = target.origin == request.target.origin
    headers = [
        (name, value)
        for name, value in request.headers
        if _goes_along(name.decode("ascii").lower(), same_origin=same_origin, drops_body=drops_body)
    ]
    body = b"" if drops_body else request.body
    return Request(method, target, [(b"host", target.authority), *headers], body)


def _method(method: str, status_code: int) -> str:
    if status_code in _TO_GET_ALWAYS and method != "HEAD":
        return "GET"
    if status_code in _TO_GET_FROM_POST and method == "POST":
        return "GET"
    return method


def _goes_along(name: str, *, same_origin: bool, drops_body: bool) -> bool:
    if name == "host":
        return False
    if drops_body and name.startswith(("content-", "webhook-")):
        return False  # the signature is over the body
    return same_origin or name in _PUBLIC_HEADERS or name.startswith(_PUBLIC_PREFIX)
