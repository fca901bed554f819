"""The sender of attempts."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from kuueri_grpc.dispatcher.failures import DeadlineExceeded, classify
from kuueri_grpc.dispatcher.gate import OriginGate
from kuueri_grpc.dispatcher.redirects import MAX_REDIRECTS, next_request
from kuueri_grpc.dispatcher.request import build_request, origin_of, target_url
from kuueri_grpc.domain.outcome import Outcome, answered, parse_retry_after
from kuueri_grpc.ports import Clock, Delivery, NotStarted

MAX_PER_HOST = 256
MAX_BODY_BYTES = 64 * 1_024


@dataclass(slots=True)
class _Answer:
    """What is known of the final answer so far (status code 0: nothing); its body is not kept."""

    status_code: int = 0
    retry_after: str | None = None


class HttpDispatcher:
    """Sends attempts over an httpx transport; implements `ports.Dispatcher`.

    Args:
        transport: where requests go; in production a `GuardedTransport`. It is closed with the
            dispatcher. It must close a connection whose call is cancelled or whose body is not read to
            its end.
        clock: for signatures and Retry-After dates.
        max_per_host: attempts in flight to one origin. Further ones wait before their time begins. (An
            attempt counts for the origin of its task, also while it follows a redirect elsewhere.)
        max_body_bytes: how much of an answer's body is read, as it comes over the wire. A longer one is
            cut off by closing the connection; the status code counts.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        clock: Clock,
        *,
        max_per_host: int = MAX_PER_HOST,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._gate = OriginGate(max_per_host)
        self._max_body_bytes = max_body_bytes

    async def send(self, delivery: Delivery, may_start: Callable[[], bool] = lambda: True) -> Outcome:
        """Send the request and return what it came to. See `ports.Dispatcher` for the rules."""
        try:
            origin = origin_of(target_url(delivery.target))
        except (httpx.InvalidURL, UnicodeError) as error:  # the latter: a host that IDNA refuses
            return _failed(error, 0)
        async with self._gate.slot(origin):
            if not may_start():
                raise NotStarted
            return await self._attempt(delivery, may_start)

    async def aclose(self) -> None:
        """Close every connection. Attempts in flight fail with CONNECTION_LOST: cancel them before."""
        await self._transport.aclose()

    async def _attempt(self, delivery: Delivery, may_start: Callable[[], bool]) -> Outcome:
        answer = _Answer()
        started = time.monotonic()
        deadline = asyncio.timeout(delivery.timeout_ms / 1_000)
        try:
            async with deadline:
                await self._exchange(delivery, answer, may_start)
        except NotStarted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the target or the network does is an outcome
            cause = DeadlineExceeded() if deadline.expired() else error
            return _failed(cause, _since_ms(started), answer.status_code or None)
        latency_ms = _since_ms(started)
        retry_after_ms = parse_retry_after(answer.retry_after, self._clock.now_ms())
        return answered(answer.status_code, latency_ms, retry_after_ms)

    async def _exchange(self, delivery: Delivery, answer: _Answer, may_start: Callable[[], bool]) -> None:
        """Send the request and, if asked to, those that it is redirected to; fill in the last answer."""
        request = build_request(delivery, self._clock.now_ms())
        for _ in range(1 + MAX_REDIRECTS):
            # Asked again when there is a connection: making one may take longer than a lease.
            request.extensions["may_send"] = may_start
            response = await self._transport.handle_async_request(request)
            body = _stream(response)
            try:
                following = next_request(request, response) if delivery.target.follow_redirects else None
                if following is None:
                    answer.status_code = response.status_code
                    if not response.is_success:
                        answer.retry_after = response.headers.get("retry-after")
                await self._discard(body)
            finally:
                await body.aclose()
            if following is None:
                return
            request = following
        raise httpx.TooManyRedirects("too many redirects")

    async def _discard(self, body: httpx.AsyncByteStream) -> None:
        """Read the body, up to the cap, so that the answer is known to be whole."""
        received = 0
        async for chunk in body:
            received += len(chunk)
            if received > self._max_body_bytes:
                return


def _stream(response: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the transport answered with a synchronous stream")
    return response.stream


def _failed(error: Exception, latency_ms: int, status_code: int | None = None) -> Outcome:
    reason, detail = classify(error)
    return Outcome(latency_ms, status_code, reason, detail=detail)


def _since_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1_000)
