"""Attempts to send, and dispatchers to send them with."""

import functools
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
from aiohttp.abc import AbstractResolver

from kuueri_grpc.dispatcher import EgressProxy, GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.domain.task import HttpMethod, HttpTarget
from kuueri_grpc.ports import Delivery

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
LOOPBACK = "127.0.0.0/8"


class FixedClock:
    def now_ms(self) -> int:
        return NOW_MS


@functools.cache
def public_tls() -> ssl.SSLContext:
    """The default of the dispatcher, made once: reading the certificates takes longer than most tests."""
    return httpx.create_ssl_context()


@asynccontextmanager
async def dispatching(
    *allow: str,
    deny: Sequence[str] = (),
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
    proxy: EgressProxy | None = None,
    max_per_host: int = 256,
    max_connections: int = 1_000,
    max_answer_bytes: int = 64 * 1_048_576,
) -> AsyncIterator[HttpDispatcher]:
    """Run a dispatcher that may send to these ranges besides public addresses."""
    transport = GuardedTransport(
        TargetPolicy(allow, deny),
        resolver=resolver,
        ssl_context=tls or public_tls(),
        proxy=proxy,
        max_connections=max_connections,
        max_answer_bytes=max_answer_bytes,
    )
    dispatcher = HttpDispatcher(transport, FixedClock(), max_per_host=max_per_host)
    try:
        yield dispatcher
    finally:
        await dispatcher.aclose()


def delivery(url: str, *, timeout_ms: int = 20_000, **target: object) -> Delivery:
    """Return the first attempt of a task; `target` overrides fields of its `HttpTarget`."""
    fields: dict[str, object] = {"method": HttpMethod.POST, "body": b"{}", **target}
    return Delivery(
        project_id="p1",
        task_id="task-1",
        attempt=1,
        retry_count=0,
        retry_limit=0,
        repeat_count=0,
        repeat_limit=0,
        schedule_time_ms=NOW_MS,
        create_time_ms=NOW_MS,
        timeout_ms=timeout_ms,
        target=HttpTarget(url, **fields),  # type: ignore[arg-type]
    )
