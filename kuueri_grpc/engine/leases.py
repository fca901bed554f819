"""Keep the leases of attempts in flight, and stop the attempts whose lease was lost."""

import asyncio
import logging
import time

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.backoff import TRANSIENT, Backoff
from kuueri_grpc.ports import NO_TELEMETRY, ExecutionStore, Lease, Telemetry

_log = logging.getLogger(__name__)

#: Renewals per lease time: two may fail before a lease is in danger.
_RENEWALS = 3
#: After an outage leases have to be renewed before anybody claims again, see `EngineSettings.regain_ms`.
_LONGEST_WAIT_MS = 400


class LeaseKeeper:
    """Renews all leases of this process in one call, three times per lease time."""

    def __init__(
        self,
        store: ExecutionStore,
        attempts: Attempts,
        lease_ms: int,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._store = store
        self._telemetry = telemetry
        self._attempts = attempts
        self._lease_ms = lease_ms

    async def run(self) -> None:
        """Renew until cancelled. Sleeps through times without an attempt in flight."""
        backoff = Backoff(longest_ms=_LONGEST_WAIT_MS)
        while True:
            await self._attempts.busy()
            await asyncio.sleep(self._lease_ms / 1_000 / _RENEWALS)
            while True:
                try:
                    await self.run_once()
                    break
                except TRANSIENT as error:
                    # An attempt in flight goes on: with its lease still there afterwards, its outcome counts.
                    await backoff.wait("renewing leases", error)
            backoff.reset()

    async def run_once(self) -> None:
        """Renew once; abort the attempts whose lease is held by nobody or somebody else.

        Raises:
            StoreUnavailable: some leases, or all, could not be renewed.
        """
        leases = self._attempts.leases()
        if not leases:
            return
        held_until = time.monotonic() + self._lease_ms / 1_000
        renewal = await self._store.renew(leases, self._lease_ms)
        for lease in renewal.held:
            self._attempts.extend(lease, held_until)
        # Together: one that is slow to close its connection does not hold up the next renewal of all.
        await asyncio.gather(*(self._give_up(lease) for lease in renewal.lost))
        if left := len(leases) - len(renewal.held) - len(renewal.lost):
            raise StoreUnavailable(f"a part of the store does not serve now: {left} leases were not renewed")

    async def _give_up(self, lease: Lease) -> None:
        number = self._attempts.number_of(lease)
        # Reported while the call was under way: there is nothing to stop.
        if not self._attempts.has_outcome(lease) and await self._attempts.abort(lease):
            self._telemetry.lease_lost()
            _log.warning(
                "a lease was lost; its attempt was aborted",
                extra={
                    "event": "lease_lost",
                    "project": lease.project_id,
                    "task": lease.task_id,
                    "attempt": number,
                },
            )
