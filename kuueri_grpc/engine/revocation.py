"""Cancel holds: no attempt starts after Cancel answered, whichever process has claimed it.

The store takes the task from its holder, atomically; what remains is an attempt that the holder may be
about to send, or is sending. Cancel therefore waits until the holder says that it is stopped, or until
the holder's lease has run out, after which it does not start anything (see `Attempts`). See
`docs/adr/0002-cancel-waits-for-the-holder.md`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.ports import Cancelled, Lease, Revoke, Revoked, RevokedAttempt, SignalBus


class Revocations:
    """Stops attempts here, and asks other instances to stop theirs."""

    def __init__(self, bus: SignalBus, attempts: Attempts, instance: str) -> None:
        self._bus = bus
        self._attempts = attempts
        self._instance = instance
        self._claims_under_way = 0
        self._revoked: set[Lease] = set()
        self._awaited: defaultdict[Lease, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Hold during a claim call and the start of what it gave."""
        self._claims_under_way += 1
        try:
            yield
        finally:
            self._claims_under_way -= 1
            if self._claims_under_way == 0:
                self._revoked.clear()

    def revoked(self, lease: Lease) -> bool:
        """Return whether a claim was revoked before its answer arrived: it must not start."""
        return lease in self._revoked

    async def stop_here(self, lease: Lease) -> None:
        """Return when this process will not send anything more of that attempt."""
        if not await self._attempts.abort(lease) and self._claims_under_way:
            # It may be in the answer of the claim that is under way.
            self._revoked.add(lease)

    async def stop(self, project_id: str, cancelled: Cancelled) -> None:
        """Return when no attempt of a cancelled task can start any more."""
        if cancelled.token is None or cancelled.holder is None:
            return
        lease = Lease(project_id, cancelled.task.spec.task_id, cancelled.token)
        await self.stop_attempt(RevokedAttempt(lease, cancelled.holder, cancelled.lease_left_ms))

    async def stop_attempt(self, revoked: RevokedAttempt) -> None:
        """Return when an attempt that was taken from its holder cannot start any more."""
        if revoked.holder == self._instance:
            await self.stop_here(revoked.lease)
        elif revoked.lease_left_ms > 0:
            await self._stop_elsewhere(revoked.lease, revoked.holder, revoked.lease_left_ms)

    async def _stop_elsewhere(self, lease: Lease, holder: str, lease_left_ms: int) -> None:
        stopped = asyncio.Event()
        self._awaited[lease].add(stopped)
        try:
            async with asyncio.timeout(lease_left_ms / 1_000):
                await self._bus.send_revoke(holder, Revoke(lease, self._instance))
                await stopped.wait()
        except TimeoutError:
            pass  # The lease has run out: the holder is gone, or will find that it may not start.
        finally:
            self._awaited[lease].discard(stopped)
            if not self._awaited[lease]:
                del self._awaited[lease]

    async def answer(self, revoke: Revoke) -> None:
        """Do what another instance asked, and tell it."""
        await self.stop_here(revoke.lease)
        await self._bus.send_revoked(revoke.reply_to, Revoked(revoke.lease))

    def resolve(self, revoked: Revoked) -> None:
        """Take another instance's word that it has stopped."""
        for stopped in self._awaited.get(revoked.lease, ()):
            stopped.set()
