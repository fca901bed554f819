"""How the workers of one supervisor stand, taken together: what the supervisor's admin endpoint answers.

Each worker serves an admin endpoint of its own on a unix socket, and is asked whenever the supervisor is.
`docs/adr/0007-metrics.md` says why they are not written to shared files.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.registry import Collector

from kuueri_grpc.telemetry.endpoint import Readiness
from kuueri_grpc.telemetry.merge import Merged, parse
from kuueri_grpc.telemetry.queues import QueueLabels
from kuueri_grpc.telemetry.state import gauge

_log = logging.getLogger(__name__)

#: How long a worker may take to answer. Longer than it waits for the store itself.
_ANSWER_S = 2.0
#: How often workers are asked although nobody wants to know: what one counted since is lost if it is killed.
_REFRESH_S = 5.0
#: Bytes of the largest answer of a worker that is read; one with all its series has some 100 KB.
_LARGEST_ANSWER = 4 * 1_048_576
_SUPERVISOR = "supervisor"


@dataclass(eq=False, slots=True)
class _Worker:
    name: str
    socket: Path
    #: What it last answered to `/metrics`.
    latest: list[Metric] = field(default_factory=list)
    answering: bool = True
    #: Its last answer could not be read, which was logged.
    unreadable: bool = False


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
            self._departed.add(gone.latest, worker, alive=False)

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
            merged.add(worker.latest, worker.name, alive=worker.answering)
        answering = sum(worker.answering for worker in workers)
        return merged.add(
            [gauge("kuueri_workers", "Workers that answer.", answering)], _SUPERVISOR, alive=True
        )

    async def _pull(self, worker: _Worker, *, of_store: bool = False) -> None:
        answer = await _get(worker.socket, "/metrics" if of_store else "/metrics?store=no")
        metrics = None
        if answer is not None:
            try:
                metrics = parse(answer)
            except ValueError as error:
                self._note_unreadable(worker, error)
        worker.answering = metrics is not None
        if metrics is not None:
            worker.latest, worker.unreadable = metrics, False

    @staticmethod
    def _note_unreadable(worker: _Worker, error: ValueError) -> None:
        if not worker.unreadable:
            worker.unreadable = True
            _log.warning(
                "the metrics of worker %s cannot be read, and stay as they were: %s",
                worker.name,
                error,
                extra={"event": "worker_metrics_unreadable"},
            )

    async def _ask_readiness(self, worker: _Worker) -> Sequence[str]:
        """Return the reasons why a worker is not ready; none if it is."""
        answer = await _get(worker.socket, "/readyz")
        if answer is None:
            return ("it does not answer",)
        try:
            match json.loads(answer):
                case {"reasons": [*reasons]}:
                    return [str(reason) for reason in reasons]
        except (ValueError, RecursionError):
            pass
        return ("its answer cannot be read",)


async def _get(socket: Path, path: str) -> str | None:
    """Return what is answered, whatever the status; None if nothing is, or nothing that can be text."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    connector = aiohttp.UnixConnector(str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://worker{path}") as response,
        ):
            answer = bytearray()
            async for part in response.content.iter_any():
                answer += part
                if len(answer) > _LARGEST_ANSWER:
                    return None
            return answer.decode()
    except (aiohttp.ClientError, OSError, ValueError):
        return None
