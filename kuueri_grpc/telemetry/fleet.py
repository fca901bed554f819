"""How the workers of one supervisor stand, taken together: what the supervisor's admin endpoint answers.

Each worker serves an admin endpoint of its own on a unix socket, and is asked whenever the supervisor is.
`docs/adr/0007-metrics.md` says why they are not written to shared files.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from kuueri_grpc.telemetry.endpoint import Readiness
from kuueri_grpc.telemetry.merge import Merged, parse
from kuueri_grpc.telemetry.queues import QueueLabels
from kuueri_grpc.telemetry.state import gauge

#: How long a worker may take to answer. Longer than it waits for the store itself.
_ANSWER_S = 2.0
#: How often workers are asked although nobody wants to know: what one counted since is lost if it is killed.
_REFRESH_S = 5.0
_SUPERVISOR = "supervisor"


@dataclass(eq=False, slots=True)
class _Worker:
    name: str
    socket: Path
    #: What it last answered to `/metrics`.
    latest: str = ""
    answering: bool = True


class Fleet:
    """`Monitored` of a supervisor. `registry`: the metrics of the supervisor itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._restarts = Counter(
            "kuueri_worker_restarts",
            "Workers that were started anew after they had ended.",
            registry=registry,
        )
        self._hung = Counter(
            "kuueri_workers_hung",
            "Workers that stood still and were killed.",
            registry=registry,
        )
        self._workers: dict[str, _Worker] = {}
        self._names: set[str] = set()
        self._departed = Merged(QueueLabels())

    def join(self, worker: str, socket: Path) -> None:
        """A worker serves, with its admin endpoint on `socket`; a known name means that it is a new one."""
        self.leave(worker)
        if worker in self._names:
            self._restarts.inc()
        self._names.add(worker)
        self._workers[worker] = _Worker(worker, socket)

    def leave(self, worker: str) -> None:
        """A worker has ended. What it had counted when it last answered stays in the sums."""
        gone = self._workers.pop(worker, None)
        if gone is not None:
            self._departed.add(parse(gone.latest), worker, alive=False)

    def hung(self) -> None:
        """A worker stands still and is killed."""
        self._hung.inc()

    async def run(self) -> None:
        """Ask all workers now and then, until cancelled."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            await asyncio.gather(*(self._pull(worker) for worker in self._workers.values()))

    def faults(self) -> Sequence[str]:
        """See `Monitored`. Workers that end are started anew: no fault of theirs is for good."""
        return ()

    async def readiness(self) -> Readiness:
        """See `Monitored`. One worker that is ready is enough to send calls here."""
        workers = list(self._workers.values())
        answers = await asyncio.gather(*(self._ask_readiness(worker) for worker in workers))
        if any(not reasons for reasons in answers):
            return Readiness()
        named = zip(workers, answers, strict=True)
        reasons = [f"worker {worker.name}: {reason}" for worker, reasons in named for reason in reasons]
        return Readiness(tuple(reasons) or ("no worker serves",))

    async def metrics(self, *, of_store: bool) -> Collector:
        """See `Monitored`. A worker that does not answer is in the sums with what it last counted."""
        workers = list(self._workers.values())
        # What is of the store is the same whoever is asked.
        spokesman = next((worker for worker in workers if worker.answering), None) if of_store else None
        await asyncio.gather(*(self._pull(worker, of_store=worker is spokesman) for worker in workers))
        # What one that has ended meanwhile had counted is with the departed.
        workers = [worker for worker in workers if self._workers.get(worker.name) is worker]
        merged = self._departed.copy().add(self._registry.collect(), _SUPERVISOR, alive=True)
        for worker in workers:
            merged.add(parse(worker.latest), worker.name, alive=worker.answering)
        answering = sum(worker.answering for worker in workers)
        return merged.add(
            [gauge("kuueri_workers", "Workers that answer.", answering)], _SUPERVISOR, alive=True
        )

    async def _pull(self, worker: _Worker, *, of_store: bool = False) -> None:
        answer = await _get(worker.socket, "/metrics" if of_store else "/metrics?store=no")
        worker.answering = answer is not None
        if answer is not None:
            worker.latest = answer

    async def _ask_readiness(self, worker: _Worker) -> Sequence[str]:
        """Return the reasons why a worker is not ready; none if it is."""
        answer = await _get(worker.socket, "/readyz")
        if answer is None:
            return ("it does not answer",)
        reasons: dict[str, Any] = json.loads(answer)
        return [str(reason) for reason in reasons["reasons"]]


async def _get(socket: Path, path: str) -> str | None:
    """Return what is answered, whatever the status; None if nothing is."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    connector = aiohttp.UnixConnector(str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://worker{path}") as response,
        ):
            return await response.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
