"""Write outcomes to the store in batches that wait for nothing but the batch before."""

import asyncio
import logging

from kuueri_grpc.engine.backoff import TRANSIENT, Backoff
from kuueri_grpc.ports import ExecutionStore, Lease, Report

_log = logging.getLogger(__name__)


#: When to send again what a part of the store did not take.
_AGAIN_S = 0.2

_Item = tuple[Report, asyncio.Future[bool]]


class Reporter:
    """Collects reports while one call to the store is under way, and sends them with the next.

    A report is delayed by one round trip at most, and a busy process makes few large calls.
    """

    def __init__(self, store: ExecutionStore) -> None:
        self._store = store
        self._pending: list[_Item] = []
        self._arrived = asyncio.Event()

    async def report(self, report: Report) -> bool:
        """Return once the store has it. False: the token was stale and nothing changed.

        Through an outage of the store it waits; the caller's cancellation withdraws the report.
        """
        applied: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pending.append((report, applied))
        self._arrived.set()
        return await applied

    async def give_back(self, lease: Lease) -> bool:
        """Give the lease of an attempt back that this process could not send. False: the lease runs out."""
        try:
            return await self._store.release([lease]) == [True]
        except TRANSIENT:
            return False

    async def run(self) -> None:
        """Send until cancelled."""
        backoff = Backoff()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch = [item for item in self._pending if not item[1].done()]
            self._pending = []
            if not batch:
                continue
            try:
                answers = await self._store.report([report for report, _ in batch])
            except TRANSIENT as error:
                self._pending = batch + self._pending
                self._arrived.set()
                await backoff.wait("reporting outcomes", error)
                continue
            backoff.reset()
            not_taken = []
            for item, answer in zip(batch, answers, strict=True):
                if answer is None:
                    not_taken.append(item)
                elif not item[1].done():
                    item[1].set_result(answer)
            if not_taken:
                # A part of the store does not serve; what goes to the rest does not wait for it.
                asyncio.get_running_loop().call_later(_AGAIN_S, self._resume, not_taken)

    def _resume(self, items: list[_Item]) -> None:
        self._pending = items + self._pending
        self._arrived.set()
