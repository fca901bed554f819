"""The sender of attempts."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from kuueri_grpc.dispatcher.deadlines import Deadline, Deadlines
from kuueri_grpc.dispatcher.failures import DeadlineExceeded, classify, notes
from kuueri_grpc.dispatcher.gate import OriginGate
from kuueri_grpc.dispatcher.message import Answer, Request
from kuueri_grpc.dispatcher.redirects import MAX_REDIRECTS, TooManyRedirects, is_redirect, next_request
from kuueri_grpc.dispatcher.request import build_request
from kuueri_grpc.dispatcher.shortage import LocalShortage, ShortageWait, lack_in
from kuueri_grpc.dispatcher.transport import GuardedTransport
from kuueri_grpc.dispatcher.url import Target, target_of
from kuueri_grpc.domain.outcome import Outcome, answered, parse_retry_after
from kuueri_grpc.domain.url import InvalidUrl
from kuueri_grpc.ports import Clock, Delivery, NotStarted, ResourcesLacking

MAX_PER_HOST = 256


class HttpDispatcher:
    """Sends attempts over HTTP; implements `ports.Dispatcher`.

    Args:
        transport: where requests go. It is closed with the dispatcher.
        clock: for signatures and Retry-After dates.
        max_per_host: attempts in flight to one origin. Further ones wait before their time begins. (An
            attempt counts for the origin of its task, also while it follows a redirect elsewhere.)

    Must be made in a running event loop.
    """

    def __init__(
        self, transport: GuardedTransport, clock: Clock, *, max_per_host: int = MAX_PER_HOST
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._gate = OriginGate(max_per_host)
        self._deadlines = Deadlines()

    async def send(self, delivery: Delivery, may_start: Callable[[], bool] = lambda: True) -> Outcome:
        """Send the request and return what it came to. See `ports.Dispatcher` for the rules."""
        try:
            target = target_of(delivery.target)
        except InvalidUrl as error:
            return _failed(error, 0, Answer())
        async with self._gate.slot(target.origin):
            if not may_start():
                raise NotStarted
            return await self._attempt(delivery, target, may_start)

    async def aclose(self) -> None:
        """Close every connection. Attempts in flight fail with CONNECTION_LOST: cancel them before."""
        self._deadlines.close()
        await self._transport.aclose()

    async def _attempt(self, delivery: Delivery, target: Target, may_start: Callable[[], bool]) -> Outcome:
        answer = Answer()
        started = time.monotonic()
        deadline = self._deadlines.start(delivery.timeout_ms / 1_000)
        try:
            await self._exchange(delivery, target, answer, may_start, deadline)
        except (NotStarted, ResourcesLacking):
            raise
        except (Exception, asyncio.CancelledError) as error:
            cause = error
            if deadline.expired and deadline.was_the_cause():
                cause = DeadlineExceeded()
            elif isinstance(error, asyncio.CancelledError):
                raise
            elif lack := lack_in(error):
                raise ResourcesLacking(lack) from error
            leads_on = delivery.target.follow_redirects and is_redirect(answer)
            latency_ms = _since_ms(started + deadline.suspended_s)
            return _failed(cause, latency_ms, Answer() if leads_on else answer)
        finally:
            self._deadlines.stop(deadline)
        latency_ms = _since_ms(started + deadline.suspended_s)
        retry_after = None if answer.succeeded else answer.retry_after
        wait_ms = parse_retry_after(retry_after, self._clock.now_ms())
        return answered(answer.status_code, latency_ms, wait_ms, notes(answer))

    async def _exchange(
        self,
        delivery: Delivery,
        target: Target,
        answer: Answer,
        may_start: Callable[[], bool],
        deadline: Deadline,
    ) -> None:
        """Send the request and, if asked to, those that it is redirected to; fill in the last answer."""
        request = build_request(delivery, target, self._clock.now_ms())
        # `may_start` is asked again when there is a connection: making one may take longer than a lease.
        try:
            await self._transport.send(request, answer, may_start)
        except LocalShortage as error:
            await self._send_later(request, answer, may_start, deadline, error)
        if not delivery.target.follow_redirects:
            return
        for _ in range(MAX_REDIRECTS):
            following = next_request(request, answer)
            if following is None:
                return
            request = following
            answer.forget()
            try:
                await self._transport.send(request, answer, may_start)
            except LocalShortage as error:
                await self._send_later(request, answer, may_start, deadline, error)
        if next_request(request, answer) is not None:
            raise TooManyRedirects

    async def _send_later(
        self,
        request: Request,
        answer: Answer,
        may_start: Callable[[], bool],
        deadline: Deadline,
        shortage: LocalShortage,
    ) -> None:
        """Send a request that could not be sent for a lack of this process. While it waits its time stops."""
        origin = None if answer.sent_again else request.target.origin
        wait = ShortageWait(partial(self._transport.has_room, origin))
        while True:
            self._deadlines.suspend(deadline)
            try:
                if not await wait.again():
                    raise ResourcesLacking(shortage.lack) from shortage
            finally:
                self._deadlines.resume(deadline)
            if not may_start():
                raise NotStarted
            try:
                return await self._transport.send(request, answer, may_start)
            except LocalShortage as error:
                shortage = error


def _failed(error: BaseException, latency_ms: int, answer: Answer) -> Outcome:
    reason, detail = classify(error)
    return Outcome(latency_ms, reason=reason, detail="; ".join(filter(None, (detail, notes(answer)))))


def _since_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1_000)
