"""The `InstanceRegistry` port: two keys in database 0, kept by the heartbeats of all instances."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from kuueri_grpc.ports import NO_TELEMETRY, Instance, Sighting
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.observer import StoreObserver
from kuueri_grpc.store.scripts import run_alone

#: Silence after which an instance is forgotten: many missed heartbeats, so it is gone or of no use.
_FORGOTTEN_AFTER_MS = 30_000
#: When the last instance was killed, nobody is left to forget it.
_KEYS_TTL_MS = 2 * _FORGOTTEN_AFTER_MS

_KEYS = (keys.INSTANCES, keys.INSTANCE_DETAILS)


class RedisInstanceRegistry:
    """`ports.InstanceRegistry`, by the store's clock.

    `observer`: told of what a server says of itself; who only looks needs none.
    """

    def __init__(self, client: Commands, observer: StoreObserver | None = None) -> None:
        self._client = client
        self._observer = observer or StoreObserver(NO_TELEMETRY)

    async def announce(self, instance: Instance) -> Sequence[Sighting]:
        """See `ports.InstanceRegistry`."""
        details = json.dumps(dataclasses.asdict(instance))
        arguments = (instance.instance_id, details, _FORGOTTEN_AFTER_MS, _KEYS_TTL_MS)
        with self._observer.call("announce"):
            flat = await run_alone(self._client, "announce", _KEYS, *arguments)
        return _oldest_first(zip(flat[::2], flat[1::2], strict=True))

    async def withdraw(self, instance_id: str) -> None:
        """See `ports.InstanceRegistry`."""
        with self._observer.call("withdraw"):
            await self._client.zrem(keys.INSTANCES, instance_id)
            await self._client.hdel(keys.INSTANCE_DETAILS, instance_id)

    async def sightings(self) -> Sequence[Sighting]:
        """See `ports.InstanceRegistry`."""
        with outages_mapped():
            seconds, microseconds = await self._client.time()
            now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
            # Pairs, whatever the library's types say.
            beats: Sequence[Any] = await self._client.zrange(keys.INSTANCES, 0, -1, withscores=True)
            details = await self._client.hgetall(keys.INSTANCE_DETAILS)
        return _oldest_first(
            (details[instance_id], max(0, now_ms - int(beat_ms)))
            for instance_id, beat_ms in beats
            if instance_id in details
        )


def _oldest_first(seen: Iterable[tuple[bytes | str, int]]) -> list[Sighting]:
    sightings = [Sighting(_instance(details), age_ms) for details, age_ms in seen]
    return sorted(sightings, key=lambda s: (s.instance.start_time_ms, s.instance.instance_id))


def _instance(text: bytes | str) -> Instance:
    """Read what an instance, maybe of another version, said of itself."""
    known = {field.name for field in dataclasses.fields(Instance)}
    details = {name: value for name, value in json.loads(text).items() if name in known}
    lists = {name: tuple(value) for name, value in details.items() if isinstance(value, list)}
    return Instance(**details | lists)
