"""The HTTP endpoint for operators: `/healthz`, `/readyz`, `/metrics`.

Plain HTTP without authentication: it listens on the loopback address unless it is told otherwise, and
shows neither tasks nor secrets (queues and project ids, yes).
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kuueri_grpc.telemetry.admin_server import BoundedServer
from kuueri_grpc.telemetry.endpoint import AdminAddress, Readiness

_Page = Callable[[web.BaseRequest], Awaitable[web.Response]]


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
        OSError: it cannot be listened on; the text is for the operator.
    """
    runner = web.ServerRunner(BoundedServer(_answering(monitored)), shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            bound = await _listen(runner, address)
        except OSError as error:
            # asyncio's own words for it repeat the address in a form of theirs.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
            raise OSError(
                f"the admin endpoint cannot listen on {_shown(address)}: {why}; "
                "give another address with --admin-port or ADMIN_HOST"
            ) from error
        yield bound
    finally:
        await runner.cleanup()


async def _listen(runner: web.ServerRunner, address: AdminAddress) -> str:
    if isinstance(address, Path):
        await web.UnixSite(runner, str(address)).start()
        return _shown(address)
    host, port = address
    await web.TCPSite(runner, host, port).start()
    return _shown((host, runner.addresses[0][1]))


def _shown(address: AdminAddress) -> str:
    if isinstance(address, Path):
        return str(address)
    host, port = address
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _answering(monitored: Monitored) -> _Page:
    """Return what answers the requests. Each connection is closed after its answer."""

    async def healthz(_: web.BaseRequest) -> web.Response:
        faults = list(monitored.faults())
        return _json({"alive": not faults, "reasons": faults}, ok=not faults)

    async def readyz(_: web.BaseRequest) -> web.Response:
        readiness = await monitored.readiness()
        return _json({"ready": readiness.ready, "reasons": list(readiness.reasons)}, ok=readiness.ready)

    async def metrics(request: web.BaseRequest) -> web.Response:
        encode, content_type = choose_encoder(",".join(request.headers.getall("Accept", [])))
        collector = await monitored.metrics(of_store=request.query.get("store") != "no")
        return web.Response(body=encode(collector), headers={"Content-Type": content_type})

    pages: dict[str, _Page] = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}

    async def answer(request: web.BaseRequest) -> web.Response:
        page = pages.get(request.path)
        if page is None:
            response = web.Response(status=404, text="404: Not Found")
        elif request.method not in ("GET", "HEAD"):
            allowed = {"Allow": "GET, HEAD"}
            response = web.Response(status=405, text="405: Method Not Allowed", headers=allowed)
        else:
            response = await page(request)
        response.force_close()
        return response

    return answer


def _json(body: object, *, ok: bool) -> web.Response:
    # A cached answer would be about another moment.
    return web.json_response(body, status=200 if ok else 503, headers={"Cache-Control": "no-store"})
