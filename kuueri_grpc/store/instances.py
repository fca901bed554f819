"""The `InstanceRegistry` port: two keys in database 0, kept by the heartbeats of all instances."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from kuueri_grpc.ports import Instance, Sighting
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import outages_mapped

#: Silence after which an instance is forgotten: many missed heartbeats, so it is gone or of no use.
_FORGOTTEN_AFTER_MS = 30_000
#: When the last instance was killed, nobody is left to forget it.
_KEYS_TTL_MS = 2 * _FORGOTTEN_AFTER_MS


class RedisInstanceRegistry:
    """`ports.InstanceRegistry`, by the store's clock."""

    def __init__(self, client: Commands) -> None:
        self._client = client

    async def announce(self, instance: Instance) -> Sequence[Sighting]:
        """See `ports.InstanceRegistry`."""
        details = json.dumps(dataclasses.asdict(instance))
        with outages_mapped():
            now_ms = await self._now_ms()
            # Before the heartbeat, so that whoever is seen can be looked up.
            await self._client.hset(keys.INSTANCE_DETAILS, instance.instance_id, details)
            await self._client.zadd(keys.INSTANCES, {instance.instance_id: now_ms})
            await self._client.pexpire(keys.INSTANCE_DETAILS, _KEYS_TTL_MS)
            await self._client.pexpire(keys.INSTANCES, _KEYS_TTL_MS)
            silent = await self._client.zrange(
                keys.INSTANCES, "-inf", now_ms - _FORGOTTEN_AFTER_MS, byscore=True
            )
        if silent:
            await self._forget(*silent)
        return await self.sightings()

    async def withdraw(self, instance_id: str) -> None:
        """See `ports.InstanceRegistry`."""
        await self._forget(instance_id)

    async def sightings(self) -> Sequence[Sighting]:
        """See `ports.InstanceRegistry`."""
        with outages_mapped():
            now_ms = await self._now_ms()
            # Pairs, whatever the library's types say.
            beats: Sequence[Any] = await self._client.zrange(keys.INSTANCES, 0, -1, withscores=True)
            details = await self._client.hgetall(keys.INSTANCE_DETAILS)
        seen = [
            Sighting(_instance(details[instance_id]), max(0, now_ms - int(beat_ms)))
            for instance_id, beat_ms in beats
            if instance_id in details
        ]
        return sorted(seen, key=lambda s: (s.instance.start_time_ms, s.instance.instance_id))

    async def _forget(self, *instance_ids: str | bytes) -> None:
        with outages_mapped():
            await self._client.zrem(keys.INSTANCES, *instance_ids)
            await self._client.hdel(keys.INSTANCE_DETAILS, *instance_ids)

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._client.time()
        return int(seconds) * 1_000 + int(microseconds) // 1_000


def _instance(text: bytes | str) -> Instance:
    """Read what an instance, maybe of another version, said of itself."""
    known = {field.name for field in dataclasses.fields(Instance)}
    details = {name: value for name, value in json.loads(text).items() if name in known}
    return Instance(**details | {"roles": tuple(details["roles"])})
