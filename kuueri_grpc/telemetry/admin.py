"""The HTTP endpoint for operators: `/healthz`, `/readyz`, `/metrics`.

Plain HTTP without authentication: it listens on the loopback address unless it is told otherwise, and
shows neither tasks nor secrets (queues and project ids, yes).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kuueri_grpc.telemetry.endpoint import AdminAddress, Readiness


class Monitored(Protocol):
    """A server, as its operators ask for it."""

    def faults(self) -> Sequence[str]:
        """Return what has broken down for good, so that a restart is needed; nothing: it lives."""
        ...

    async def readiness(self) -> Readiness:
        """Return whether it can serve now. Takes a second or two at the most."""
        ...

    async def metrics(self, *, of_store: bool) -> Collector:
        """Return the metrics as they are now, with or without those that are of the store as a whole."""
        ...


@asynccontextmanager
async def serve_admin(address: AdminAddress, monitored: Monitored) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address in force (`host:port`, or the path).

    Raises:
        OSError: it cannot be listened on.
    """
    runner = web.AppRunner(_application(monitored), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        if isinstance(address, Path):
            await web.UnixSite(runner, str(address)).start()
            yield str(address)
        else:
            host, port = address
            site = web.TCPSite(runner, host, port)
            await site.start()
            yield f"{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _application(monitored: Monitored) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        faults = list(monitored.faults())
        return _json({"alive": not faults, "reasons": faults}, ok=not faults)

    async def readyz(_: web.Request) -> web.Response:
        readiness = await monitored.readiness()
        return _json({"ready": readiness.ready, "reasons": list(readiness.reasons)}, ok=readiness.ready)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(",".join(request.headers.getall("Accept", [])))
        collector = await monitored.metrics(of_store=request.query.get("store") != "no")
        return web.Response(body=encode(collector), headers={"Content-Type": content_type})

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    return application


def _json(body: object, *, ok: bool) -> web.Response:
    # A cached answer would be about another moment.
    return web.json_response(body, status=200 if ok else 503, headers={"Cache-Control": "no-store"})
