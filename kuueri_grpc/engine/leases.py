"""Keep the leases of attempts in flight, and stop the attempts whose lease was lost."""

import asyncio
import logging
import time

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.ports import ExecutionStore

_log = logging.getLogger(__name__)

#: Renewals per lease time: two may fail before a lease is in danger.
_RENEWALS = 3


class LeaseKeeper:
    """Renews all leases of this process in one call, three times per lease time."""

    def __init__(self, store: ExecutionStore, attempts: Attempts, lease_ms: int) -> None:
        self._store = store
        self._attempts = attempts
        self._lease_ms = lease_ms

    async def run(self) -> None:
        """Renew until cancelled. Sleeps through times without an attempt in flight."""
        while True:
            await self._attempts.busy()
            await asyncio.sleep(self._lease_ms / 1_000 / _RENEWALS)
            try:
                await self.run_once()
            except StoreUnavailable as error:
                # An attempt in flight goes on: if its lease is still there afterwards, its outcome counts.
                _log.warning("renewing leases failed, trying again: %s", error)

    async def run_once(self) -> None:
        """Renew once; abort the attempts whose lease is held by nobody or somebody else."""
        leases = self._attempts.leases()
        if not leases:
            return
        held_until = time.monotonic() + self._lease_ms / 1_000
        lost = set(await self._store.renew(leases, self._lease_ms))
        for lease in leases:
            if lease not in lost:
                self._attempts.extend(lease, held_until)
        for lease in lost:
            # Reported while the call was under way: nothing to stop.
            if await self._attempts.abort(lease):
                _log.warning("the lease of task %s was lost; its attempt was aborted", lease.task_id)
