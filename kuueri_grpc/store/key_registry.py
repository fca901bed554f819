"""Which keys the store's records are sealed under: noted in the store itself, by id and check value.

A server notes its newest key before it seals anything with it, and refuses to serve while a key that is
noted is not among its own, or is another one of that id. So a lost or wrong key is met at the start, and
not by a task that is due.
"""

from collections.abc import Mapping

from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.ports import NO_TELEMETRY, UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import outages_mapped
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.instances import RedisInstanceRegistry
from kuueri_grpc.store.observer import StoreObserver
from kuueri_grpc.store.scripts import run_alone

_FIELD = "key:"
#: Silence after which an instance need not be waited for: it was killed.
_PRESUMED_DEAD_MS = 7_000
_WHERE = "in SERVICE.CRYPTO.KEY, or for an embedded store in encryption.keys in its data directory"


class KeyRegistry:
    """The keys in use, as noted in the hash `keys.STORE`.

    `observer`: told of what a server asks while it serves; a command needs none.
    """

    def __init__(self, client: Commands, observer: StoreObserver | None = None) -> None:
        self._client = client
        self._observer = observer or StoreObserver(NO_TELEMETRY)

    async def partitions(self) -> int | None:
        """Return how many partitions the store was initialised with, None if it was not."""
        with outages_mapped():
            kept = await self._client.hget(keys.STORE, "partitions")
        return None if kept is None else int(kept)

    async def in_use(self) -> dict[str, str]:
        """Return the check value of each key that records may be sealed under, by its id."""
        with outages_mapped():
            kept = await self._client.hgetall(keys.STORE)
        return noted({text(name): text(value) for name, value in kept.items()})

    async def is_in_use(self, key_id: str) -> bool:
        """Return whether records may be sealed under a key."""
        with self._observer.call("key"):
            return bool(await self._client.hexists(keys.STORE, _FIELD + key_id))

    async def note_newest(self, keyring: Keyring) -> None:
        """Note the key that this process seals with, unless it is already.

        Raises:
            UnfitStore: somebody who serves the store does not have it, and could not go on.
        """
        key = keyring.newest
        for sighting in await RedisInstanceRegistry(self._client).sightings():
            instance = sighting.instance
            if sighting.age_ms < _PRESUMED_DEAD_MS and key.key_id not in instance.keys:
                raise UnfitStore(
                    f"instance {instance.instance_id} (process {instance.pid} on {instance.host}) serves the "
                    f"store and does not have the key {key.key_id!r}, so nothing may be sealed with it yet. "
                    f"Give every server that key behind its first one before any has it first, {_WHERE}"
                )
        await run_alone(self._client, "note_key", [keys.STORE], _FIELD + key.key_id, key.check_value)

    async def retire(self, key_ids: list[str]) -> None:
        """Forget keys: no record is sealed under them any more."""
        if key_ids:
            with outages_mapped():
                await self._client.hdel(keys.STORE, *(_FIELD + key_id for key_id in key_ids))


def noted(identity: Mapping[str, str]) -> dict[str, str]:
    """Return the keys in use, by the fields of `keys.STORE`: id -> check value."""
    return {name.removeprefix(_FIELD): value for name, value in identity.items() if name.startswith(_FIELD)}


def check_keys(in_use: Mapping[str, str], keyring: Keyring) -> None:
    """Return if a keyring opens whatever may be in the store.

    Raises:
        UnfitStore: it does not; the text names the key and says what to do.
    """
    for key_id, check_value in sorted(in_use.items()):
        key = keyring.find(key_id)
        if key is None:
            raise UnfitStore(
                f"records in the store are sealed under the key {key_id!r}, and this server has only "
                f"{', '.join(keyring.ids)}; put that key back, behind the others, {_WHERE}. Without it those "
                "records are lost; with it `kuueri keys rotate` moves them to the newest key"
            )
        if key.check_value != check_value:
            raise UnfitStore(
                f"this server has another key of the id {key_id!r} than the one that the store's records are "
                f"sealed under; put the right one in its place, {_WHERE}"
            )
