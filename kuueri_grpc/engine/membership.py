"""The heartbeat of an instance, and what it learns of the others by it."""

import asyncio
import dataclasses
import logging

from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.backoff import TRANSIENT
from kuueri_grpc.engine.ownership import Ownership, alone, ranked
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.ports import Instance, InstanceRegistry

_log = logging.getLogger(__name__)

#: The role of an instance that claims due tasks.
SCHEDULER_ROLE = "scheduler"
_HEARTBEAT_S = 2.0
_WITHDRAWAL_S = 0.5
#: Silence after which an instance's partitions are looked at by the next one without waiting for it.
_PRESUMED_DEAD_MS = 7_000


class Membership:
    """Announces this instance every 2 s, and shares the partitions with the schedulers that live."""

    def __init__(
        self,
        registry: InstanceRegistry,
        attempts: Attempts,
        scheduler: Scheduler,
        instance: Instance,
        partitions: int,
    ) -> None:
        self._registry = registry
        self._attempts = attempts
        self._scheduler = scheduler
        self._instance = instance
        self._partitions = partitions
        self._others: frozenset[str] = frozenset()
        self._ownership = alone(partitions)
        # One at a time: a heartbeat that overtakes the withdrawal would bring back one that is gone.
        self._speaking = asyncio.Lock()
        self._withdrawn = False

    async def run(self) -> None:
        """Announce until cancelled, or withdrawn."""
        silenced = False
        while not self._withdrawn:
            try:
                await self.run_once()
                silenced = False
            except TRANSIENT as error:
                # Once for an outage: who watches the store has more to say of it.
                level = logging.DEBUG if silenced else logging.WARNING
                _log.log(level, "announcing this instance failed, trying again: %s", error)
                silenced = True
            await asyncio.sleep(_HEARTBEAT_S)

    async def run_once(self) -> None:
        """Announce this instance as it is now, and share the partitions anew if that changes something."""
        async with self._speaking:
            if self._withdrawn:
                return
            seen = await self._registry.announce(
                dataclasses.replace(
                    self._instance,
                    in_flight=self._attempts.in_flight,
                    partitions=self._ownership.owned if self._schedules else 0,
                )
            )
        others = frozenset(
            sighting.instance.instance_id
            for sighting in seen
            if SCHEDULER_ROLE in sighting.instance.roles and sighting.age_ms < _PRESUMED_DEAD_MS
        ) - {self._instance.instance_id}
        if others != self._others and self._schedules:
            await self._share(ranked(self._partitions, self._instance.instance_id, others))
            self._others = others

    async def withdraw(self, patience_s: float) -> None:
        """Say that this instance is stopping; others find out by its silence if that fails.

        It is given up after `patience_s`, or 500 ms: a heartbeat that the store does not answer comes first.
        """
        self._withdrawn = True
        try:
            async with asyncio.timeout(min(patience_s, _WITHDRAWAL_S)), self._speaking:
                await self._registry.withdraw(self._instance.instance_id)
        except TRANSIENT as error:
            why = str(error) or "the store does not answer in time"
            _log.warning("withdrawing this instance failed, it will be forgotten: %s", why)

    async def _share(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._scheduler.share(ownership)
        # What is on its agenda was put there with the delays that held before.
        await self._scheduler.look_again()

    @property
    def _schedules(self) -> bool:
        return SCHEDULER_ROLE in self._instance.roles
