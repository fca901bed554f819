"""The HTTP server of a target."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from kuueri_grpc.cli.target.answers import Answers
from kuueri_grpc.cli.target.order import Order, OrderCheck
from kuueri_grpc.cli.target.signature import SignatureError, verify

TASK_HEADER = "x-kuueri-tasks-queue"
ATTEMPT_HEADER = "x-kuueri-tasks-attempt"
#: The `signature` of a request that is rightly signed.
VALID = "valid"
#: Far over what a task may carry.
_MAX_BODY = 64 * 1024 * 1024
#: How long a request that is being answered may go on when the server stops.
_SHUTDOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request, and what it is answered.

    `headers` have lower-case names; `query` all values of each parameter. `status` None: no answer.
    `task_id`, `attempt` and `order` are None where the request does not come from a task, `signature` where
    it is not to be verified; else it is `valid` or what is wrong with it.
    """

    received_at_ns: int
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    status: int | None
    task_id: str | None
    attempt: int | None
    order: Order | None
    signature: str | None

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """Return the request that `as_document` made the document of."""
        fields = {name: value for name, value in document.items() if name not in ("kind", "received_at")}
        fields["body"] = base64.b64decode(fields["body"])
        fields["order"] = fields["order"] and Order(fields["order"])
        return cls(received_at_ns=document["received_at"], **fields)

    def as_document(self) -> dict[str, Any]:
        """Return the request for JSON; the body as base64."""
        return {
            "kind": "request",
            "received_at": self.received_at_ns,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": base64.b64encode(self.body).decode(),
            "status": self.status,
            "task_id": self.task_id,
            "attempt": self.attempt,
            "order": self.order,
            "signature": self.signature,
        }


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the target answers beside its script; `delay_ms` is between request and answer."""

    delay_ms: int = 0
    retry_after: str | None = None
    location: str | None = None
    signing_keys: Sequence[bytes] = field(default=(), repr=False)


class TargetServer:
    """Answers every request on one port.

    `on_request` is called for each request once it has come in whole, `on_answered` once its answer is
    being sent.
    """

    def __init__(
        self,
        answers: Answers,
        behaviour: Behaviour,
        on_request: Callable[[Received], None],
        on_answered: Callable[[], None],
    ) -> None:
        self.order = OrderCheck()
        self._answers = answers
        self._behaviour = behaviour
        self._on_request = on_request
        self._on_answered = on_answered
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)

    async def start(self, host: str, port: int) -> str:
        """Listen, on a free port where `port` is 0, and return the URL.

        Raises:
            OSError: the address cannot be listened on.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound_host, bound_port, *_ = self._runner.addresses[0]
        return f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"

    async def stop(self) -> None:
        """Stop listening, and let what is being answered finish for a moment."""
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        received_at_ns = time.time_ns()
        received = self._receive(request, received_at_ns, await request.read())
        self._on_request(received)
        await asyncio.sleep(self._behaviour.delay_ms / 1_000)
        self._on_answered()
        if received.status is None:
            if request.transport is not None:
                request.transport.abort()
            # Nobody gets it.
            return web.Response()
        return self._respond(received.status)

    def _receive(self, request: web.Request, received_at_ns: int, body: bytes) -> Received:
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        task_id = task_of(headers)
        attempt = _number(headers.get(ATTEMPT_HEADER, ""))
        return Received(
            received_at_ns=received_at_ns,
            method=request.method,
            path=request.path,
            query={name: request.query.getall(name) for name in request.query},
            headers=headers,
            body=body,
            status=self._answers.next(task_id or request.path),
            task_id=task_id,
            attempt=attempt,
            order=self.order.record(task_id, attempt) if task_id and attempt else None,
            signature=self._signature(headers, body),
        )

    def _signature(self, headers: dict[str, str], body: bytes) -> str | None:
        if not self._behaviour.signing_keys:
            return None
        try:
            verify(self._behaviour.signing_keys, headers, body, time.time())
        except SignatureError as error:
            return str(error)
        return VALID

    def _respond(self, status: int) -> web.Response:
        response = web.Response(status=status)
        if not 200 <= status < 300 and self._behaviour.retry_after is not None:
            response.headers["Retry-After"] = self._behaviour.retry_after
        if 300 <= status < 400 and self._behaviour.location is not None:
            response.headers["Location"] = self._behaviour.location
        return response


def task_of(headers: Mapping[str, str]) -> str | None:
    """Return the task that a request comes from, None where it is not signed and no retry or repetition.

    The header that names the task comes with retries and repetitions alone; what is signed has an id that
    is made of the task's, the time it was subscribed and the number of the repetition.
    """
    if TASK_HEADER in headers:
        return headers[TASK_HEADER]
    message_id = headers.get("webhook-id", "")
    return message_id.rsplit("_", 2)[0] or None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
