"""Why an attempt failed: the one place where the exceptions of the libraries become reasons."""

import errno
import logging
import ssl
import traceback
from socket import gaierror

import aiodns
import aiohttp

from kuueri_grpc.dispatcher.chain import chain
from kuueri_grpc.dispatcher.exchange import AnswerTooLong, ConnectionLost
from kuueri_grpc.dispatcher.message import Answer, InvalidResponse
from kuueri_grpc.dispatcher.proxy import ProxyFailed
from kuueri_grpc.dispatcher.redirects import MAX_REDIRECTS, TooManyRedirects
from kuueri_grpc.domain.target_policy import BlockedAddress
from kuueri_grpc.domain.timeline import Reason

_log = logging.getLogger(__name__)


class DeadlineExceeded(Exception):
    """The attempt's own time was over; unlike any other time-out, which is a failure of the connection."""


#: In order: the first line with a type that occurs anywhere in an exception's chain gives the reason.
#: The libraries wrap what happened (a refused address comes as a failed lookup), so what is certain
#: stands before what is general.
_REASONS: tuple[tuple[Reason, tuple[type[BaseException], ...]], ...] = (
    (Reason.TIMEOUT, (DeadlineExceeded,)),
    (Reason.BLOCKED_ADDRESS, (BlockedAddress,)),
    (Reason.TOO_MANY_REDIRECTS, (TooManyRedirects,)),
    (Reason.CONNECTION_FAILED, (ProxyFailed,)),
    (Reason.DNS, (aiohttp.ClientConnectorDNSError, aiodns.error.DNSError, gaierror)),
    (Reason.TLS, (aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError)),
    (Reason.CONNECTION_REFUSED, (ConnectionRefusedError,)),
    (Reason.CONNECTION_LOST, (AnswerTooLong, ConnectionLost, ConnectionError)),
    (Reason.INVALID_RESPONSE, (InvalidResponse,)),
    (Reason.CONNECTION_FAILED, (OSError,)),
    (Reason.CONNECTION_LOST, (aiohttp.ClientConnectionError,)),
)


def classify(error: BaseException) -> tuple[Reason, str]:
    """Return the reason for an attempt that ended in `error`, and a detail.

    The detail is a few words: fit for the task's owner, and without anything of the request or the
    answer (no URL, header or body). An error that is not known is logged, with its place and no text.
    """
    links = list(chain(error))
    if any(_broke_in_handshake(link) for link in links):
        return Reason.TLS, "connection closed during the handshake"
    for reason, types in _REASONS:
        for link in links:
            if isinstance(link, types):
                return reason, _detail(reason, link, links)
    _log_unknown(error)
    return Reason.INTERNAL, type(error).__name__


def _broke_in_handshake(link: BaseException) -> bool:
    """Whether a target that accepts the connection drops it before it is established: that is TLS."""
    return isinstance(link, aiohttp.ClientConnectorError) and isinstance(
        link.os_error, ConnectionResetError | ConnectionAbortedError
    )


def _detail(reason: Reason, link: BaseException, links: list[BaseException]) -> str:
    match reason:
        case Reason.TIMEOUT | Reason.CONNECTION_REFUSED | Reason.INVALID_RESPONSE:
            return ""  # the reason says it all
        case Reason.BLOCKED_ADDRESS:
            return link.kind if isinstance(link, BlockedAddress) else ""
        case Reason.TOO_MANY_REDIRECTS:
            return f"more than {MAX_REDIRECTS}"
        case Reason.TLS:
            return _tls_detail(links)
        case Reason.DNS:
            return _dns_detail(links)
        case _:
            return link.detail if isinstance(link, ProxyFailed | AnswerTooLong) else _os_detail(links)


def notes(answer: Answer) -> str:
    """Return what else there is to know of an attempt, whether its answer is whole or not."""
    if answer.is_whole and not answer.sent_again and not answer.cut_off_at:
        return ""  # as nearly always
    parts = []
    if answer.sent_again:
        parts.append("tried twice: a kept connection had been closed by the target")
    if answer.cut_off_at:
        parts.append(f"{answer.cut_off_at:,} bytes of the answer were read, and it has more")
    elif answer.status_code and not answer.is_whole:
        parts.append(f"the answer had begun with status {answer.status_code}")
    return "; ".join(parts)


def _tls_detail(links: list[BaseException]) -> str:
    # By attribute, not by class: aiohttp's errors claim to be those of `ssl`, but do not have theirs.
    for link in links:
        if message := getattr(link, "verify_message", None):
            return str(message)
    for link in links:
        if isinstance(link, ssl.SSLError) and (reason := getattr(link, "reason", None)):
            return str(reason).lower().replace("_", " ")
    return ""


def _dns_detail(links: list[BaseException]) -> str:
    for link in links:
        if isinstance(link, aiodns.error.DNSError | gaierror) and len(link.args) > 1:
            return str(link.args[1])
    return ""


def _os_detail(links: list[BaseException]) -> str:
    for link in links:
        if isinstance(link, OSError) and link.errno:
            return errno.errorcode.get(link.errno, "")
    return ""


def _log_unknown(error: BaseException) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    _log.error("an attempt could not be sent: %s at %s", type(error).__qualname__, place)
